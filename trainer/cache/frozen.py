"""The frozen parts of a model that a cache needs, and nothing of its DiT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from schemas.errors import ConfigError
from schemas.masks import LATENT_STRIDE
from trainer.cache.card import Widths
from trainer.cache.identity import DTYPES, CacheIdentity
from trainer.data.geometry import Image
from unified_model.assembly import load_codec, load_processor, load_tower
from unified_model.checkpoint import checkpoint_folder, whole_model_of
from unified_model.codec import LatentCodec
from unified_model.config import UnifiedModelConfig
from unified_model.features import EditFeatures
from unified_model.processor import EditProcessor
from unified_model.understanding import QwenSiglipTower

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prompt:
    """What the towers are asked about: an instruction, None where it was dropped, and (H, W, 3) uint8 references."""

    instruction: str | None
    references: Sequence[Image]


class FrozenParts:
    """VAE, processor and, by choice, the understanding tower, on one device.

    Args:
        model: folder of a model.
        identity: says whether features are wanted, and in which type to compute.
        device: a torch device; "auto" takes a GPU where there is one.
        batch_size: pictures at a time; halved where the GPU's memory does not hold them.
    """

    def __init__(self, model: str, identity: CacheIdentity, device: str, batch_size: int) -> None:
        """Load them.

        Raises:
            InputError: the folder or a part is missing.
            ConfigError: a VAE of another stride than masks are pooled by.
        """
        folder = whole_model_of(checkpoint_folder(model))
        config = UnifiedModelConfig.of_folder(folder)
        dtype = DTYPES[identity.compute]
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(auto if device == "auto" else device)
        self.processor: EditProcessor = load_processor(config)
        self.codec: LatentCodec = load_codec(config, dtype).to(self.device)
        self.tower: QwenSiglipTower | None = load_tower(config, dtype).to(self.device) if identity.features else None
        self._batch_size = batch_size
        if self.codec.stride != LATENT_STRIDE:
            raise ConfigError("model", model, f"its VAE has the stride {self.codec.stride}", "Use one with 8.")

    @property
    def widths(self) -> Widths:
        """The sizes of what they make."""
        if self.tower is None:
            return Widths(channels=self.codec.channels)
        siglip = self.tower.siglip.config
        return Widths(
            channels=self.codec.channels,
            siglip_tokens=(siglip.image_size // siglip.patch_size) ** 2,
            siglip_width=siglip.hidden_size,
            vlm_width=self.tower.vlm.config.text_config.hidden_size,
        )

    def latents(self, pictures: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """(C, h, w) float32 of each (H, W, 3) uint8 picture, all of one size."""
        return self._in_batches(pictures, self._encode)

    def features(self, prompts: Sequence[Prompt]) -> list[EditFeatures]:
        """The towers' features of each prompt, as a batch of one row without padding."""
        return self._in_batches(prompts, self._look)

    def _encode(self, pictures: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        # As a training step does it, memory format and all: a kernel may round by it.
        # And always as many, so that a picture's latents do not depend on how many there were at the end of a shard.
        filled = [*pictures, *[pictures[-1]] * (self._batch_size - len(pictures))]
        target = torch.stack(filled).permute(0, 3, 1, 2)
        pixels = target.to(self.device).float() / 127.5 - 1.0
        return list(self.codec.encode(pixels).cpu()[: len(pictures)])

    def _look(self, prompts: Sequence[Prompt]) -> list[EditFeatures]:
        if self.tower is None:
            raise ConfigError("features", False, "no tower was loaded", "Ask for features.")
        inputs = self.processor([one.instruction for one in prompts], [one.references for one in prompts])
        found = self.tower(inputs.to(self.device, copy=True)).to("cpu")
        lengths = found.vlm_mask.sum(dim=1).tolist()
        rows = []
        for row, length in enumerate(lengths):
            own = found.image_rows == row
            rows.append(
                EditFeatures(
                    vlm_states=found.vlm_states[row : row + 1, :length],
                    vlm_mask=found.vlm_mask[row : row + 1, :length],
                    siglip_tokens=found.siglip_tokens[own],
                    image_rows=torch.zeros(int(own.sum()), dtype=torch.int64),
                    image_positions=found.image_positions[own],
                )
            )
        return rows

    def _in_batches(self, items: Sequence[Item], work: Callable[[Sequence[Item]], list[Result]]) -> list[Result]:
        results: list[Result] = []
        while len(results) < len(items):
            try:
                results += work(items[len(results) : len(results) + self._batch_size])
            except torch.OutOfMemoryError:
                if self._batch_size == 1:
                    raise
                self._batch_size //= 2
                torch.cuda.empty_cache()
        return results
