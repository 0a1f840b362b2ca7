"""What a model is shown: upright, within a longest side, and as the original bytes wherever those will do."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import ExifTags, Image

from schemas.image_format import sniff_format
from schemas.images import decode_image

_ENDPOINT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Pillow's name of the formats that every endpoint takes -> their media type."""
_JPEG_QUALITY = 95


def encoded_bytes(image: pa.StructScalar) -> pa.Buffer | None:
    """The bytes of a `struct<bytes, path>` where they lie in Arrow's memory, or None where there are none."""
    data = image["bytes"] if image.is_valid else None
    return data.as_buffer() if data is not None and data.is_valid else None


def shown_image(data: bytes, max_side: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8, upright, shrunk where its longer side exceeds `max_side`, inclusive.

    Raises:
        RowRejected: as `schemas.images.decode_image`.
    """
    return _within(decode_image(data), max_side)


def endpoint_image(data: bytes, max_side: int) -> tuple[str, bytes]:
    """Media type and bytes to send for an encoded image.

    The original bytes go out where every endpoint sees in them what we see: JPEG, PNG or WebP in plain RGB or grey,
    upright, a single frame, opaque, within `max_side`. Anything else is sent as a JPEG made from the decoded image.

    Raises:
        RowRejected: as `schemas.images.decode_image`; a corrupt image is never sent.
    """
    decoded = decode_image(data)
    media_type = _plain_media_type(data)
    if media_type is not None and max(decoded.shape[:2]) <= max_side:
        return media_type, data
    stream = io.BytesIO()
    Image.fromarray(_within(decoded, max_side)).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return "image/jpeg", stream.getvalue()


def _plain_media_type(data: bytes) -> str | None:
    known = sniff_format(data)
    if known is None or known.pillow not in _ENDPOINT_TYPES:
        return None
    with Image.open(io.BytesIO(data)) as image:
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) in (0, 1)
        opaque = image.mode in ("RGB", "L") and "transparency" not in image.info
        single = getattr(image, "n_frames", 1) == 1
    return _ENDPOINT_TYPES[known.pillow] if upright and opaque and single else None


def _within(image: npt.NDArray[np.uint8], max_side: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1.0:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
