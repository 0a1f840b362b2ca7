"""Which image format bytes are in, and whether they were cut off: read from the bytes themselves, decoding nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_JPEG_SOI, _JPEG_EOI = 0xD8, 0xD9


@dataclass(frozen=True)
class ImageFormat:
    """An image format that editmill reads.

    Args:
        pillow: Pillow's name of the format.
        extension: file extension without a dot; members of shards are named with it.
        signature: matches the first bytes of a file.
    """

    pillow: str
    extension: str
    signature: re.Pattern[bytes]


JPEG = ImageFormat("JPEG", "jpg", re.compile(rb"\xff\xd8\xff"))
FORMATS: tuple[ImageFormat, ...] = (
    JPEG,
    ImageFormat("PNG", "png", re.compile(re.escape(_PNG_SIGNATURE))),
    ImageFormat("WEBP", "webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ImageFormat("GIF", "gif", re.compile(rb"GIF8[79]a")),
    ImageFormat("BMP", "bmp", re.compile(rb"BM")),
    ImageFormat("TIFF", "tif", re.compile(rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]")),
    ImageFormat("AVIF", "avif", re.compile(rb"....ftypavi[fs]", re.DOTALL)),
    ImageFormat("JPEG2000", "jp2", re.compile(rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    ImageFormat("PPM", "ppm", re.compile(rb"P[1-7]\s")),
    ImageFormat("QOI", "qoi", re.compile(rb"qoif")),
)
"""Formats that are read. Others that Pillow knows stay out on purpose: vector formats run interpreters, and formats
without a signature would take any bytes for an image."""


def sniff_format(data: bytes) -> ImageFormat | None:
    """The format whose signature `data` begins with, or None."""
    return next((known for known in FORMATS if known.signature.match(data)), None)


def is_cut_off(data: bytes, known: ImageFormat) -> bool:
    """Whether the file ends before its own structure does. Tells for PNG, JPEG and WebP; False for other formats."""
    if known.pillow == "PNG":
        return _png_is_cut_off(data)
    if known.pillow == "JPEG":
        return _jpeg_is_cut_off(data)
    if known.pillow == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    return False


def png_ends_with_text(data: bytes) -> bool:
    """Whether a PNG holds EXIF or text, which may be EXIF as well, behind its pixels."""
    pixels_were = False
    for kind in _png_chunks(data):
        if pixels_were and kind in _PNG_TEXTS:
            return True
        pixels_were |= kind == b"IDAT"
    return False


def _png_is_cut_off(data: bytes) -> bool:
    return all(kind != b"IEND" for kind in _png_chunks(data))


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """The types of a PNG's chunks in file order, up to the first that is not all there."""
    # A chunk: length (4), type (4), body (length), checksum (4).
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        yield data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[position : position + 4], "big")


def _jpeg_is_cut_off(data: bytes) -> bool:
    # Segments carry their length, so an EXIF thumbnail's own end marker is stepped over; between a scan's header and
    # the next marker lies entropy-coded data, in which a 0xFF is always followed by 0x00 or a restart marker.
    position = 2
    while (marker := _JPEG_MARKER.search(data, position)) is not None:
        code, position = marker[1][0], marker.end()
        if code == _JPEG_EOI:
            return False
        if code != _JPEG_SOI:
            position += int.from_bytes(data[position : position + 2], "big")
    return True
