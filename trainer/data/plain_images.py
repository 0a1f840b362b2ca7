"""Decoding for training: `schemas.images` with a shorter way for the common case, a JPEG or PNG of 8 bits a colour that
is upright, has no colour profile and no transparency.

Its pixels are those that `schemas.images.decode_image` gives. What is special in any way, or damaged, is left to that:
its errors tell what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from schemas.image_format import JPEG, is_cut_off
from schemas.images import DEFAULT_MAX_PIXELS, decode_image, image_size
from trainer.data.geometry import Reduction

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
_JPEG_SIZES = frozenset({0xC0, 0xC1, 0xC2})
"""Frame headers of baseline, extended and progressive JPEG."""
_PNG_PLAIN = frozenset({b"IHDR", b"IDAT", b"IEND", b"sRGB", b"cHRM", b"gAMA", b"pHYs", b"tIME", b"bKGD", b"sBIT"})
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


@dataclass(frozen=True)
class PlainImage:
    """What the header says of a plain image that is all there."""

    width: int
    height: int
    is_jpeg: bool


def size_of(data: bytes, plain: PlainImage | None) -> tuple[int, int]:
    """As `schemas.images.image_size`; `plain` is what `plain_image` said of `data`."""
    return image_size(data) if plain is None else (plain.width, plain.height)


def decoded(data: bytes, plain: PlainImage | None, reduction: Reduction = 1) -> npt.NDArray[np.uint8]:
    """As `schemas.images.decode_image`; `plain` is what `plain_image` said of `data`."""
    pixels = None if plain is None else decode_plain(data, plain, reduction)
    return decode_image(data, reduction=reduction) if pixels is None else pixels


def plain_image(data: bytes) -> PlainImage | None:
    """The size of a plain image, or None for anything else. Reads headers only."""
    if data.startswith(b"\xff\xd8\xff"):
        return _small_enough(_plain_jpeg(data))
    return _small_enough(_plain_png(data)) if data.startswith(_PNG) else None


def decode_plain(data: bytes, image: PlainImage, reduction: Reduction = 1) -> npt.NDArray[np.uint8] | None:
    """The pixels of a plain image, or None where they cannot be decoded after all.

    Args:
        image: what `plain_image` said of `data`.
        reduction: as for `schemas.images.decode_image`.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous and writable.
    """
    factor = reduction if image.is_jpeg else 1
    flags = _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        return None
    expected = (-(-image.height // factor), -(-image.width // factor), 3)
    if pixels is None or pixels.shape != expected or pixels.dtype != np.uint8:
        return None
    if factor > 1:
        # These flags know no other order of the colours.
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return np.asarray(pixels, dtype=np.uint8)


def _small_enough(image: PlainImage | None) -> PlainImage | None:
    return image if image is not None and image.width * image.height <= DEFAULT_MAX_PIXELS else None


def _plain_jpeg(data: bytes) -> PlainImage | None:
    size, position = None, 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        code = data[position + 1]
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body = position + 4
        if position + 2 + length > len(data):
            return None
        if code == 0xDA:
            return None if is_cut_off(data, JPEG) else size
        if code in _JPEG_SIZES:
            if length < 8 or data[body] != 8 or data[body + 5] not in (1, 3):
                return None
            height, width = (int.from_bytes(data[body + at : body + at + 2], "big") for at in (1, 3))
            size = PlainImage(width, height, is_jpeg=True) if width and height else None
        elif code == 0xE1:
            if not _is_upright(data[body : body + length - 2]):
                return None
        elif (code == 0xE2 and data.startswith(b"ICC_PROFILE", body)) or code < 0xC0 or code == 0xFF:
            return None
        position += 2 + length
    return None


def _is_upright(segment: bytes) -> bool:
    """Whether an APP1 segment of a JPEG leaves the image as it is."""
    if not segment.startswith(b"Exif\0\0"):
        return b"Orientation" not in segment
    exif = Image.Exif()
    try:
        exif.load(segment)
        return bool(exif.get(_ORIENTATION, 1) == 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
        # Damaged metadata: Pillow shall say what it makes of the file.
        return False


def _plain_png(data: bytes) -> PlainImage | None:
    # Width, height, bits a colour, colour type: 8-bit RGB.
    if data[12:16] != b"IHDR" or data[24:26] != b"\x08\x02":
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    position = 8
    while position + 12 <= len(data):
        kind = data[position + 4 : position + 8]
        if kind == b"IEND":
            return PlainImage(width, height, is_jpeg=False) if width and height else None
        if kind not in _PNG_PLAIN and not _is_harmless_text(kind, data, position + 8):
            return None
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return None


def _is_harmless_text(kind: bytes, data: bytes, body: int) -> bool:
    """Whether a chunk is text that holds no EXIF or XMP, which may turn the image."""
    return kind in (b"tEXt", b"zTXt", b"iTXt") and not data.startswith((b"Raw profile", b"XML:"), body)
