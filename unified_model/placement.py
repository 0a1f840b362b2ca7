"""Where the parts of a model compute, and where they wait: all on one device, or taking turns on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import nn

from schemas.errors import ConfigError
from unified_model.model import UnifiedEditModel
from unified_model.quantisation import is_quantised

Offload = Literal["none", "parts", "blocks"]
"""`none`: every part stays on the device. `parts`: towers, connectors, DiT and VAE wait in the machine's memory, and
each is on the device only while it computes. `blocks`: so do the DiT's blocks, one by one, each fetched while the one
before it computes (diffusers' group offloading)."""

OFFLOADS: tuple[Offload, ...] = ("none", "parts", "blocks")


@contextmanager
def fetched(parts: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Inside, the parts, whose weights nobody may change there, are on `device`; afterwards they are where they were,
    in the very memory that they were in: nothing is copied back."""
    tensors = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    waiting = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(device)
        yield
    finally:
        for tensor, before in zip(tensors, waiting, strict=True):
            tensor.data = before


def fetch_for_each_call(module: nn.Module, device: str | torch.device) -> None:
    """From now on `module`, which lies on the CPU and does not train, is on `device` while its `forward` runs only.
    Quantised parts of it stay where they are."""
    target = torch.device(device)
    moving = movable(module, is_quantised)
    there = ExitStack()

    def fetch(*arguments: object) -> None:
        there.enter_context(fetched(moving, target))

    def put_back(*arguments: object) -> None:
        there.close()

    module.register_forward_pre_hook(fetch)
    module.register_forward_hook(put_back, always_call=True)


def movable(module: nn.Module, stays: Callable[[nn.Module], bool]) -> list[nn.Module]:
    """The largest parts of `module`, itself maybe, that hold nothing that stays."""
    if stays(module):
        return []
    if not any(stays(part) for part in module.modules()):
        return [module]
    return [part for child in module.children() for part in movable(child, stays)]


class Placement:
    """Brings the parts of a model to the device for as long as they compute there.

    Args:
        model: with `none` on the device already; else on the CPU, save for quantised parts, which lie on `device` and
            stay there.
        device: where is computed.

    Raises:
        ConfigError: `blocks` with a quantised DiT.
    """

    def __init__(self, model: UnifiedEditModel, device: str | torch.device, offload: Offload = "none") -> None:
        self.device = torch.device(device)
        self._offload = offload
        self._transformer = model.core.denoiser.transformer
        if offload == "blocks":
            if is_quantised(self._transformer):
                raise ConfigError(
                    "offload", offload, "does not go with a quantised DiT, which stays on its device", "Say parts."
                )
            self._stream_blocks()

    @contextmanager
    def using(self, *modules: nn.Module) -> Iterator[None]:
        """In the block the modules are on the device."""
        moving = [] if self._offload == "none" else [part for one in modules for part in movable(one, self._stays)]
        with fetched(moving, self.device):
            yield
        if moving and self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _stays(self, module: nn.Module) -> bool:
        """Whether it is quantised, or the DiT where its blocks move by themselves."""
        return is_quantised(module) or (self._offload == "blocks" and module is self._transformer)

    def _stream_blocks(self) -> None:
        from diffusers.hooks import apply_group_offloading

        apply_group_offloading(
            self._transformer,
            onload_device=self.device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=self.device.type == "cuda",
        )
