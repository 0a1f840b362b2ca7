"""What is stored of one sample, read where the index says. Shape legend as in `trainer.cache.layout`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from schemas.errors import RowRejected
from schemas.masks import LATENT_STRIDE
from trainer.cache.card import Widths
from trainer.cache.identity import DTYPES, FloatName
from trainer.cache.layout import LATENTS, SIGLIP, vlm_part
from trainer.data.dropping import Dropped
from unified_model.features import EditFeatures


@dataclass(frozen=True)
class CachedPlace:
    """Where a cache holds one sample.

    Args:
        path: of the shard's file of numbers.
        stored: type of the numbers.
        widths: as in the cache's card.
        width, height: of the bucket, in pixels.
        references: R.
        reference_latents: whether their latents are stored.
        offsets: part -> where it begins, in bytes.
        tokens: VLM part -> L.
        mask_status: of the sample; "none" for an image with a caption.
    """

    path: Path
    stored: FloatName
    widths: Widths
    width: int
    height: int
    references: int
    reference_latents: bool
    offsets: Mapping[str, int]
    tokens: Mapping[str, int]
    mask_status: str

    def has_features(self, dropped: Dropped) -> bool:
        """Whether the towers' features are stored of the sample without what is dropped."""
        part = vlm_part(dropped, self.references)
        return part in self.offsets and (dropped.image or not self.references or SIGLIP in self.offsets)

    def latents(self) -> tuple[npt.NDArray[np.bool_], torch.Tensor]:
        """(h, w) edited cells, and (1 + R, C, h, w) latents of the target and, where stored, of the references.

        Raises:
            RowRejected: `cache_unreadable`.
        """
        rows, columns = self.height // LATENT_STRIDE, self.width // LATENT_STRIDE
        pictures = 1 + self.references * self.reference_latents
        shape = (pictures, self.widths.channels, rows, columns)
        data = self._read(LATENTS, rows * columns + int(np.prod(shape)) * self._item)
        cells = np.frombuffer(data, np.uint8, rows * columns).reshape(rows, columns).astype(np.bool_)
        return cells, self._values(data, rows * columns, shape)

    def features(self, dropped: Dropped) -> EditFeatures:
        """The features as a batch of one row, in the cache's type.

        Raises:
            RowRejected: `cache_unreadable`.
        """
        part = vlm_part(dropped, self.references)
        images = 0 if dropped.image else self.references
        length = self.tokens[part]
        data = self._read(part, 8 * images + length * self.widths.vlm_width * self._item)
        positions = torch.from_numpy(np.frombuffer(data, "<i8", images).copy())
        states = self._values(data, 8 * images, (1, length, self.widths.vlm_width))
        shape = (images, self.widths.siglip_tokens, self.widths.siglip_width)
        tokens = torch.zeros(shape, dtype=DTYPES[self.stored])
        if images:
            tokens = self._values(self._read(SIGLIP, int(np.prod(shape)) * self._item), 0, shape)
        mask = torch.ones(1, length, dtype=torch.bool)
        return EditFeatures(states, mask, tokens, torch.zeros(images, dtype=torch.int64), positions)

    @property
    def _item(self) -> int:
        return DTYPES[self.stored].itemsize

    def _read(self, part: str, size: int) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(descriptor, size, self.offsets[part])
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RowRejected("cache_unreadable", f"{self.path.name}: {error}") from error
        if len(data) != size:
            raise RowRejected("cache_unreadable", f"{self.path.name} ends before the sample does")
        return data

    def _values(self, data: bytes, start: int, shape: tuple[int, ...]) -> torch.Tensor:
        # A copy, since the bytes lie where no tensor of this type could.
        raw = np.frombuffer(data, np.uint8, int(np.prod(shape)) * self._item, start).copy()
        return torch.from_numpy(raw).view(DTYPES[self.stored]).reshape(shape)


def joined(rows: Sequence[EditFeatures], dtype: torch.dtype) -> EditFeatures:
    """Batches of one row each as one batch, padded on the right."""
    longest = max(row.vlm_states.shape[1] for row in rows)
    gaps = [longest - row.vlm_states.shape[1] for row in rows]
    states = [functional.pad(row.vlm_states, (0, 0, 0, gap)) for row, gap in zip(rows, gaps, strict=True)]
    masks = [functional.pad(row.vlm_mask, (0, gap)) for row, gap in zip(rows, gaps, strict=True)]
    return EditFeatures(
        torch.cat(states).to(dtype),
        torch.cat(masks),
        torch.cat([row.siglip_tokens for row in rows]).to(dtype),
        torch.cat([torch.full_like(row.image_rows, number) for number, row in enumerate(rows)]),
        torch.cat([row.image_positions for row in rows]),
    )
