"""How many bytes of tensors are alive, at once and at most, while a piece of code runs; on the meta device too.

A run on the meta device computes shapes only, so that a step at release size takes a second and no memory, and yet
makes and drops every tensor that the real one would.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROUNDING = 512
"""Bytes to which torch's CUDA allocator rounds what it hands out."""


class LiveBytes(TorchDispatchMode):
    """Counts the storages that are made on one kind of device inside its `with` block and not yet gone.

    Args:
        device: kind of device, "meta" or "cpu" for instance; others do not count.
        known: tensors that are there already and do not count, parameters for instance.
    """

    def __init__(self, device: str, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self._device = device
        self.now = 0
        """Bytes alive."""
        self.peak = 0
        """The most that were alive at once."""
        # Held for as long as this is: the identity of a storage that is gone may be given to another.
        self._known = [tensor.untyped_storage() for tensor in known]
        self._seen = {storage._cdata for storage in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count what it made."""
        del types
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == self._device:
                self._take(leaf)
        return result

    def add(self, size: int) -> None:
        """Count bytes that no tensor stands for."""
        self.now += size
        self.peak = max(self.peak, self.now)

    def _take(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        name = storage._cdata
        if name in self._seen:
            return
        size = -(-storage.nbytes() // ROUNDING) * ROUNDING
        self._seen.add(name)
        self.add(size)
        weakref.finalize(storage, self._drop, name, size)

    def _drop(self, name: int, size: int) -> None:
        self._seen.discard(name)
        self.now -= size


@contextmanager
def kernels_of_a_run(linear: Callable[..., torch.Tensor] | None = None) -> Iterator[None]:
    """Inside, `scaled_dot_product_attention` is the flash kernel's operator, as it is on a GPU, and `linear` as told.

    On the meta device torch would choose the plain formula of attention, which keeps the scores of all pairs.

    Args:
        linear: in place of torch's; None for torch's own, whatever DeepSpeed has put in its place in this process.
    """
    attention, linear_before = functional.scaled_dot_product_attention, functional.linear

    def flash(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        del attn_mask, enable_gqa
        outputs = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )
        attended: torch.Tensor = outputs[0]
        return attended

    functional.scaled_dot_product_attention = flash
    functional.linear = linear or torch._C._nn.linear
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = attention
        functional.linear = linear_before
