"""A training step rehearsed on the meta device: what the core keeps for its backward pass, and the peak of both passes.

Nothing is estimated here: the real classes are run, with the same layers frozen and recomputed as in the run; so a new
kind of block or adapter needs no formula. Shape legend as in `unified_model.features`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainer.measures.flops import Row
from trainer.measures.live_bytes import LiveBytes, kernels_of_a_run
from unified_model.features import EditFeatures, ReferenceLatents
from unified_model.skeleton import Skeleton


@dataclass(frozen=True)
class Rehearsal:
    """Bytes of one forward and backward pass of a micro-batch, parameters and their stored gradients apart.

    Args:
        saved: alive at the end of the forward pass, for the sake of the backward pass.
        peak: the most alive at once in both passes.
        encode: the most alive at once while the VAE encodes.
        blocks: name of a block of the DiT -> bytes that its forward pass leaves alive.
    """

    saved: int
    peak: int
    encode: int
    blocks: dict[str, int]


class GradientStore:
    """How much of the gradients is kept while the backward pass goes on.

    Args:
        element_bytes: of a stored gradient's element.
        share: of each gradient that this rank keeps, 1 / ranks where they are sharded.
        bucket: elements that are collected before they are reduced and then stored all at once; 0 stores each gradient
            as it comes.
        total: elements of all trainable parameters.
    """

    def __init__(self, element_bytes: int, share: float, bucket: int, total: int) -> None:
        self._element_bytes = element_bytes
        self._share = share
        self._bucket = bucket
        self._total = total
        self._pending = 0
        self._stored = False

    def take(self, elements: int) -> int:
        """A gradient of so many elements is there; the bytes that are stored on top now."""
        if not self._bucket:
            return round(elements * self._share * self._element_bytes)
        self._pending += elements
        if self._stored or self._pending < min(self._bucket, self._total):
            return 0
        self._stored = True
        return round(self._total * self._share * self._element_bytes)


def rehearse(
    skeleton: Skeleton,
    rows: Sequence[Row],
    gradients: GradientStore | None = None,
    linear: Callable[..., torch.Tensor] | None = None,
) -> Rehearsal:
    """Rehearse a micro-batch.

    Args:
        skeleton: in the dtype of the run, with `requires_grad` and recomputation set as in the run. It keeps no
            gradients, and may be rehearsed again.
        rows: of one target size, B of them; each is taken to be as long as the longest.
        gradients: what is stored of them; None for nothing.
        linear: what the run has in place of torch's linear layers; None for nothing.
    """
    encode = _encoding(skeleton, rows)
    core = skeleton.core
    live = LiveBytes("meta", [*core.parameters(), *core.buffers()])
    entered: dict[str, int] = {}
    hooks = [*_watch_blocks(core, live, entered), *_drop_gradients(core, live, gradients)]
    with live, kernels_of_a_run(linear):
        features, latents, times, references = _inputs(skeleton, rows)
        velocity = core(latents, times, features, reference_latents=references)
        error = (velocity.float() - torch.empty_like(latents)).square().mean(dim=1, keepdim=True)
        loss = error.sum()
        saved = live.now
        torch.autograd.backward([loss])
    for hook in hooks:
        hook.remove()
    return Rehearsal(saved, live.peak, encode, _differences(entered, saved))


def _inputs(
    skeleton: Skeleton, rows: Sequence[Row]
) -> tuple[EditFeatures, torch.Tensor, torch.Tensor, ReferenceLatents | None]:
    """Features, noisy latents, timesteps and references. Tensors of places and masks are real: they decide shapes."""
    core, batch = skeleton.core, len(rows)
    dtype = next(core.parameters()).dtype
    prompt, images = max(row.prompt_tokens for row in rows), max(len(row.grids) for row in rows)
    widths, siglip = core.conditioner.widths, skeleton.tower.siglip.config
    tokens = (siglip.image_size // siglip.patch_size) ** 2
    height, width = rows[0].height // skeleton.codec.stride, rows[0].width // skeleton.codec.stride
    meta = torch.device("meta")
    features = EditFeatures(
        vlm_states=torch.empty(batch, prompt, widths.vlm, dtype=dtype, device=meta),
        vlm_mask=torch.ones(batch, prompt, dtype=torch.bool),
        siglip_tokens=torch.empty(batch * images, tokens, widths.siglip, dtype=dtype, device=meta),
        image_rows=torch.arange(batch).repeat_interleave(images),
        image_positions=torch.arange(images).repeat(batch),
        t5_tokens=None
        if skeleton.text.t5 is None
        else torch.empty(batch, skeleton.t5_length, widths.context, dtype=dtype, device=meta),
        pooled=None if skeleton.text.clip is None else torch.empty(batch, widths.pooled, dtype=dtype, device=meta),
    )
    latents = torch.empty(batch, skeleton.codec.channels, height, width, device=meta)
    references = None
    joined = max(len(row.reference_latents) for row in rows)
    if joined:
        clean = torch.empty(batch * joined, skeleton.codec.channels, height, width, device=meta)
        references = ReferenceLatents(clean, torch.arange(batch).repeat_interleave(joined))
    return features, latents, torch.empty(batch, device=meta), references


def _encoding(skeleton: Skeleton, rows: Sequence[Row]) -> int:
    live = LiveBytes("meta", skeleton.codec.parameters())
    pictures = max(1, max(len(row.reference_latents) for row in rows))
    with live, kernels_of_a_run():
        pixels = torch.empty(len(rows) * pictures, 3, rows[0].height, rows[0].width, device="meta")
        skeleton.codec.encode(pixels)
    return live.peak


def _watch_blocks(core: nn.Module, live: LiveBytes, entered: dict[str, int]) -> list[torch.utils.hooks.RemovableHandle]:
    """Note what is alive as each block of the DiT is entered for the first time; recomputation enters it again."""
    hooks = []
    for path, module in core.named_modules():
        if not isinstance(module, nn.ModuleList) or not path.endswith("transformer_blocks"):
            continue
        for number, block in enumerate(module):
            name = f"{path.rpartition('.')[2]}.{number}"

            def note(block: nn.Module, inputs: object, name: str = name) -> None:
                entered.setdefault(name, live.now)

            hooks.append(block.register_forward_pre_hook(note))
    return hooks


def _differences(entered: dict[str, int], end: int) -> dict[str, int]:
    """What each block leaves alive: from its entry to the next one's; of the last block to the end of the pass."""
    marks = [*entered.values(), end]
    return {name: after - before for name, before, after in zip(entered, marks, marks[1:], strict=False)}


def _drop_gradients(
    core: nn.Module, live: LiveBytes, gradients: GradientStore | None
) -> list[torch.utils.hooks.RemovableHandle]:
    """Gradients go as soon as they are there, but for what is stored of them."""

    def taken(parameter: torch.Tensor) -> None:
        parameter.grad = None
        if gradients is not None:
            live.add(gradients.take(parameter.numel()))

    return [
        parameter.register_post_accumulate_grad_hook(taken)
        for parameter in core.parameters()
        if parameter.requires_grad
    ]
