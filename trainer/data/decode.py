"""An encoded sample as pixels and latent cells, under one geometry. Shape legend: P, Q rows and columns of the bucket
in pixels; p = P / 8, q = Q / 8 latent cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import RowRejected
from schemas.images import decode_mask
from schemas.masks import LATENT_STRIDE, MaskStatus
from trainer.data.buckets import Bucket
from trainer.data.geometry import (
    Crop,
    Image,
    Mask,
    Reduction,
    apply_to_image,
    choose_crop,
    latent_cells,
    reduced,
    reduction_of,
)
from trainer.data.members import EncodedSample
from trainer.data.plain_images import PlainImage, decoded, plain_image, size_of


@dataclass(frozen=True)
class Sample:
    """One decoded sample.

    Args:
        instruction: the edit in words, or the caption; None where it was dropped.
        references: (P, Q, 3) uint8 each; none for an image with a caption, or where they were dropped.
        target: (P, Q, 3) uint8.
        cells: (p, q) bool, True = edited. All True without references: there is nothing that could stay as it was.
        mask_status: see `schemas.masks.MaskStatus`; None for an image with a caption.
    """

    instruction: str | None
    references: list[Image]
    target: Image
    cells: npt.NDArray[np.bool_]
    mask_status: str | None


def decode(
    encoded: EncodedSample,
    bucket: Bucket,
    with_references: bool = True,
    target: Image | None = None,
    with_target: bool = True,
) -> Sample:
    """Decode a sample and bring reference, target and mask into one geometry.

    Args:
        bucket: the size that they are brought to.
        with_references: false leaves them out, and takes the sample as edited everywhere.
        target: (P, Q, 3) uint8 to write the target into; None makes an array.
        with_target: false leaves its pixels out: (0, 0, 3).

    Raises:
        RowRejected: an image cannot be decoded; the mask has another size than the target; the crop cuts the whole
            edit away.
    """
    plain = plain_image(encoded.target)
    width, height = size_of(encoded.target, plain)
    mask = _mask(encoded, width, height)
    reduction = reduction_of(width, height, bucket.width, bucket.height)
    crop = choose_crop(mask, bucket.width, bucket.height, reduction)
    pixels = np.empty((0, 0, 3), dtype=np.uint8)
    if with_target:
        pixels = _image(encoded.target, plain, crop, reduction, target)
    if not with_references or not encoded.references:
        everywhere = np.ones((bucket.height // LATENT_STRIDE, bucket.width // LATENT_STRIDE), dtype=np.bool_)
        return Sample(encoded.instruction, [], pixels, everywhere, encoded.mask_status)
    cells = latent_cells(mask, crop)
    if encoded.mask_status == MaskStatus.OK and not cells.any():
        raise RowRejected("edit_outside_crop", "no edited pixel is left in the crop")
    references = [_image(data, plain_image(data), crop, reduction, None) for data in encoded.references]
    return Sample(encoded.instruction, references, pixels, cells, encoded.mask_status)


def blank(bucket: Bucket) -> Sample:
    """A grey picture that keeps the place of a sample that cannot be used."""
    grey = np.full((bucket.height, bucket.width, 3), 127, dtype=np.uint8)
    cells = np.ones((bucket.height // LATENT_STRIDE, bucket.width // LATENT_STRIDE), dtype=np.bool_)
    return Sample("nothing", [grey], grey, cells, None)


def _mask(encoded: EncodedSample, width: int, height: int) -> Mask:
    if encoded.mask is None or encoded.mask_status == MaskStatus.GLOBAL:
        return np.ones((height, width), dtype=np.bool_)
    mask = decode_mask(encoded.mask)
    if mask.shape != (height, width):
        raise RowRejected("mask_size", f"the mask is {mask.shape}, the target {(height, width)} (height, width)")
    return mask


def _image(data: bytes, plain: PlainImage | None, crop: Crop, reduction: Reduction, out: Image | None) -> Image:
    """An image under the crop, decoded at a lower resolution where that costs nothing of the result."""
    if reduction > 1 and size_of(data, plain) == (crop.width, crop.height):
        pixels = decoded(data, plain, reduction)
        is_reduced = pixels.shape[:2] != (crop.height, crop.width)
        return apply_to_image(pixels, reduced(crop, reduction) if is_reduced else crop, out)
    return apply_to_image(decoded(data, plain), crop, out)
