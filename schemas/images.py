"""Encoded images and masks, in and out. Shape legend: H, W pixels of the upright image.

Whatever the bytes are, the outcome is an upright 8-bit sRGB image or a `RowRejected` with a reason.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from schemas.errors import RowRejected
from schemas.image_colour import DepthUnknownError, to_srgb
from schemas.image_format import ImageFormat, is_cut_off, png_ends_with_text, sniff_format
from schemas.masks import EDITED

DEFAULT_MAX_PIXELS = 64_000_000
"""Images with more pixels than this are rejected unless a config says otherwise: 64 Mpx, 192 MB decoded."""
HARD_MAX_PIXELS = 178_956_970
"""Pillow refuses anything larger, whatever a config says."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""
_SIDEWAYS = frozenset({5, 6, 7, 8})

# What Pillow's decoders raise on malformed bytes.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    MemoryError,
    RuntimeError,
    BufferError,
    struct.error,
    zlib.error,
)


def decode_image(
    data: bytes | None, *, max_pixels: int = DEFAULT_MAX_PIXELS, reduction: Literal[1, 2, 4, 8] = 1
) -> npt.NDArray[np.uint8]:
    """The first frame of an encoded image, upright, in 8-bit sRGB, flattened on white.

    EXIF orientation is applied once. Plain RGB without a colour profile comes back with its very pixels; see
    `schemas.image_colour.to_srgb` for everything else.

    Args:
        data: the file's bytes.
        max_pixels: the largest width x height, inclusive, taken from the header before anything is decoded.
        reduction: a JPEG is decoded at one `reduction`-th of its width and height, both rounded up, which takes less
            time; each pixel is then the mean of about those it stands for. Other formats come at their full size.

    Returns:
        (H, W, 3) uint8, C-contiguous and writable.

    Raises:
        RowRejected: `image_empty`, `image_format_unknown`, `image_truncated`, `image_too_large`, `image_corrupt`.
    """
    with _opened(data, max_pixels) as (image, known):
        if reduction > 1 and known.pillow == "JPEG":
            image.draft(None, (max(1, image.width // reduction), max(1, image.height // reduction)))
        image.load()
        # After loading: Pillow turns a TIFF upright by itself while it loads it.
        turn = _UPRIGHT.get(_orientation(image))
        try:
            rgb = to_srgb(image)
        except DepthUnknownError:
            raise RowRejected(
                "image_format_unknown",
                f"the {known.pillow} image has 32-bit pixels (mode {image.mode}), for which no white level is defined",
            ) from None
        return np.array(rgb if turn is None else rgb.transpose(turn))


def image_size(data: bytes | None, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """(width, height) of the upright image, from the header alone.

    Raises:
        RowRejected: as `decode_image`, as far as the header tells.
    """
    with _opened(data, max_pixels) as (image, known):
        width, height = image.size
        # A TIFF whose orientation is a tag of its own already says its upright size.
        told_upright = ExifTags.Base.Orientation in getattr(image, "tag_v2", ())
        # Pillow decodes all of a PNG to look for EXIF behind its pixels.
        is_told_in_front = known.pillow == "PNG" and not png_ends_with_text(data or b"")
        if not told_upright and _orientation(image, is_told_in_front) in _SIDEWAYS:
            return height, width
        return width, height


def image_extension(data: bytes | None) -> str:
    """The file extension of the format that the bytes are really in: "jpg", "png", "webp", ..., without a dot.

    Raises:
        RowRejected: `image_empty`, `image_format_unknown`.
    """
    return _known_format(data)[1].extension


def encode_mask(mask: npt.NDArray[np.bool_]) -> bytes:
    """A mask as a 1-bit PNG, white = edited. The same mask gives the same bytes.

    Args:
        mask: (H, W) bool, True = edited.

    Raises:
        ValueError: `mask` is not a two-dimensional bool array.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"mask has shape {mask.shape} and dtype {mask.dtype}; it must be (H, W) bool")
    # Eight pixels a byte, rows padded to whole bytes, as Pillow holds mode "1".
    bilevel = Image.frombytes("1", (mask.shape[1], mask.shape[0]), np.packbits(mask, axis=1).tobytes())
    stream = io.BytesIO()
    bilevel.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def decode_mask(data: bytes | None, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[np.bool_]:
    """The mask in an encoded black-and-white or grey image: (H, W) bool, True = edited (grey level 128 and above).

    Raises:
        RowRejected: as `decode_image`; also `image_corrupt` where the image has colours, so that it is no mask.
    """
    with _opened(data, max_pixels) as (image, known):
        if image.mode not in ("1", "L"):
            raise RowRejected("image_corrupt", f"a mask is black and white; this {known.pillow} has mode {image.mode}")
        if image.mode == "1":
            return np.array(image, dtype=np.bool_)
        return np.asarray(image) > EDITED // 2


@contextmanager
def _opened(data: bytes | None, max_pixels: int) -> Iterator[tuple[Image.Image, ImageFormat]]:
    """The image with its header read and its size checked; errors of the decoder inside the block are rejections."""
    whole, known = _known_format(data)
    if is_cut_off(whole, known):
        raise RowRejected(
            "image_truncated", f"the {known.pillow} file ends before it is complete ({len(whole)} bytes are there)"
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and odd metadata: sizes are checked here, and outcomes say what happened.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(whole), formats=(known.pillow,)) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise RowRejected(
                        "image_too_large", f"{width} x {height} = {width * height} pixels; at most {max_pixels} allowed"
                    )
                yield image, known
    except Image.DecompressionBombError:
        raise RowRejected("image_too_large", f"more than {HARD_MAX_PIXELS} pixels, Pillow's own limit") from None
    except UnidentifiedImageError:
        raise RowRejected("image_corrupt", f"the {known.pillow} file's header cannot be read") from None
    except _DECODE_ERRORS as error:
        raise RowRejected(
            "image_corrupt", f"the {known.pillow} file cannot be decoded ({type(error).__name__}: {error})"
        ) from error


def _known_format(data: bytes | None) -> tuple[bytes, ImageFormat]:
    if not data:
        raise RowRejected("image_empty", "the image has no bytes")
    known = sniff_format(data)
    if known is None:
        raise RowRejected(
            "image_format_unknown", f"{len(data)} bytes that begin with {data[:8].hex(' ')} are in no known format"
        )
    return data, known


def _orientation(image: Image.Image, is_told_in_front: bool = False) -> int:
    exif = Image.Image.getexif(image) if is_told_in_front else image.getexif()
    value = exif.get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) else 1
