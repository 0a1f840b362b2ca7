"""How much arithmetic: sums of FLOPs in three parts, and the walk over linear layers that everything else counts with.

A multiply and an add are two FLOPs. Matrix products, convolutions and attention are counted, in full also where a mask
leaves part of it out; element-wise work, norms and softmax are not: the convention of PaLM (arXiv:2204.02311, appendix
B), and of torch's `FlopCounterMode`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Work:
    """FLOPs of a step, or of a part of one.

    Args:
        forward: once through.
        backward: gradients of inputs, where something before them trains, and of the weights that train.
        recompute: what gradient checkpointing runs a second time.
    """

    forward: float = 0.0
    backward: float = 0.0
    recompute: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.forward + other.forward, self.backward + other.backward, self.recompute + other.recompute)

    def __mul__(self, factor: float) -> Work:
        return Work(self.forward * factor, self.backward * factor, self.recompute * factor)

    @property
    def model(self) -> float:
        """What the step needs however it is run: forward and backward. MFU counts this."""
        return self.forward + self.backward

    @property
    def hardware(self) -> float:
        """What the device is made to do: with recomputation. HFU counts this."""
        return self.model + self.recompute


def linears(module: nn.Module) -> list[nn.Linear]:
    """The linear layers in a module, itself included, in the order in which they stand; an adapter's are among them."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def linear_work(module: nn.Module, input_grad: bool, recompute: bool = False) -> Work:
    """FLOPs of one token through the linear layers of a module that follow each other.

    Args:
        input_grad: whether the first one's input carries a gradient.
        recompute: whether the module is run a second time in the backward pass.
    """
    total = Work()
    for layer in linears(module):
        once = 2.0 * layer.in_features * layer.out_features
        trains = layer.weight.requires_grad
        total += Work(once, once * (input_grad + trains), once * recompute)
        input_grad = input_grad or trains
    return total


def trains(*modules: nn.Module) -> bool:
    """Whether any parameter of any module trains."""
    return any(parameter.requires_grad for module in modules for parameter in module.parameters())
