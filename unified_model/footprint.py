"""How many bytes a model's weights take while it edits, from shapes alone; the parts may lie on the meta device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from unified_model.codec import LatentCodec
from unified_model.core import EditCore
from unified_model.placement import Offload
from unified_model.quantisation import DIT_IN_FULL, Bits
from unified_model.text_encoders import TextEncoders
from unified_model.understanding import QwenSiglipTower

BYTES_OF_4_BIT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of one weight: NF4, an 8-bit scale for 64 of them, and a 32-bit scale for 256 of those (arXiv:2305.14314)."""

VLM_IN_FULL = ("lm_head",)
"""What transformers leaves as it is."""


class Weighed(Protocol):
    """A `UnifiedEditModel`, or its `Skeleton`."""

    tower: QwenSiglipTower
    core: EditCore
    codec: LatentCodec
    text: TextEncoders


@dataclass(frozen=True)
class Footprint:
    """Bytes of weights on the device.

    Args:
        stays: what is there from the start to the end.
        moments: what is there besides at one time or another, by name; no two at once.
    """

    stays: int
    moments: dict[str, int]

    @property
    def peak(self) -> int:
        """The most at once."""
        return self.stays + max(self.moments.values(), default=0)


def stored_bytes(
    module: nn.Module, bits: Bits = "none", in_full: Sequence[str] = (), *, only_frozen: bool = False
) -> int:
    """Bytes of a module's parameters where its linear layers' weights are stored in `bits`.

    Args:
        in_full: names of children that stay as they are.
        only_frozen: weights that train stay as they are, too.
    """
    each = {"8bit": 1.0, "4bit": BYTES_OF_4_BIT}.get(bits)
    total = 0.0
    for path, part in module.named_modules():
        smaller = each is not None and isinstance(part, nn.Linear) and path.partition(".")[0] not in in_full
        for name, value in part.named_parameters(recurse=False):
            whole = not smaller or name != "weight" or (only_frozen and value.requires_grad)
            total += value.numel() * (value.element_size() if whole or each is None else each)
    return round(total)


def edit_footprint(
    model: Weighed, offload: Offload = "none", quantise_vlm: Bits = "none", quantise_transformer: Bits = "none"
) -> Footprint:
    """What `UnifiedEditPipeline` keeps on its device with these options.

    With `blocks` the block that computes and the one that is fetched are there, and what is in no block.
    """
    transformer = model.core.denoiser.transformer
    dit = stored_bytes(transformer, quantise_transformer, DIT_IN_FULL)
    rest = {"connectors": stored_bytes(model.core.conditioner), "VAE": stored_bytes(model.codec)}
    quantised, others = tower_bytes(model, quantise_vlm)
    if offload == "none":
        return Footprint(quantised + others + dit + sum(rest.values()), {})
    moments = {"towers": others} | rest
    if quantise_transformer != "none":
        return Footprint(quantised + dit, moments)
    if offload == "blocks":
        lists = (child for child in transformer.children() if isinstance(child, nn.ModuleList))
        blocks = sorted(stored_bytes(block) for child in lists for block in child)
        dit += sum(blocks[-2:]) - sum(blocks)
    return Footprint(quantised, moments | {"DiT": dit})


def tower_bytes(model: Weighed, quantise_vlm: Bits = "none") -> tuple[int, int]:
    """Bytes of the towers that are quantised, and of the others: SigLIP, CLIP, and all of them with `none`."""
    reading = stored_bytes(model.tower.vlm, quantise_vlm, VLM_IN_FULL)
    if model.text.t5 is not None:
        reading += stored_bytes(model.text.t5, quantise_vlm)
    looking = stored_bytes(model.tower.siglip)
    if model.text.clip is not None:
        looking += stored_bytes(model.text.clip)
    return (0, reading + looking) if quantise_vlm == "none" else (reading, looking)
