"""The short way of decoding gives the very pixels of the long one, and steps aside for whatever is special."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from schemas.errors import RowRejected
from schemas.images import decode_image, image_size
from trainer.data.plain_images import decode_plain, decoded, plain_image, size_of


def pixels(height: int = 45, width: int = 70) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (height // 5, width // 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(form: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels()).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    values = Image.Exif()
    values[0x0112] = orientation
    return values


def text(name: str, value: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(name, value)
    return info


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with a chunk more behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PLAIN = {
    "jpeg": encoded("JPEG"),
    "jpeg, best": encoded("JPEG", quality=100, subsampling=0),
    "jpeg, 4:2:0": encoded("JPEG", subsampling=2),
    "jpeg, progressive": encoded("JPEG", progressive=True),
    "jpeg, grey": encoded("JPEG", "L"),
    "jpeg, upright by EXIF": encoded("JPEG", exif=exif(1)),
    "jpeg, restart markers": encoded("JPEG", restart_marker_blocks=2),
    "png": encoded("PNG"),
    "png, a note": encoded("PNG", pnginfo=text("Software", "x")),
    "png, a gamma": with_chunk(encoded("PNG"), b"gAMA", struct.pack(">I", 100_000)),
}
SPECIAL = {
    "jpeg, turned": encoded("JPEG", exif=exif(6)),
    "jpeg, turned by XMP": encoded("JPEG", xmp=b"<x:xmpmeta><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"),
    "jpeg, a profile": encoded("JPEG", icc_profile=PROFILE),
    "jpeg, four inks": encoded("JPEG", "CMYK"),
    "jpeg, cut off": encoded("JPEG")[:-2],
    "png, a profile": encoded("PNG", icc_profile=PROFILE),
    "png, grey": encoded("PNG", "L"),
    "png, a palette": encoded("PNG", "P"),
    "png, transparent": encoded("PNG", "RGBA"),
    "png, one colour transparent": encoded("PNG", transparency=(0, 0, 0)),
    "png, turned": encoded("PNG", exif=exif(6)),
    "png, cut off": encoded("PNG")[:-12],
    "webp": encoded("WEBP"),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_a_plain_image_has_the_same_pixels_either_way(name: str, reduction: Any) -> None:
    data = PLAIN[name]
    found = plain_image(data)
    assert found is not None and (found.width, found.height) == (70, 45) == image_size(data) == size_of(data, found)
    short = decoded(data, found, reduction)
    assert short.flags.c_contiguous and short.flags.writeable
    assert np.array_equal(short, decode_image(data, reduction=reduction))


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_special_is_left_to_pillow(name: str) -> None:
    data = SPECIAL[name]
    assert plain_image(data) is None
    if "cut off" not in name and data:
        assert np.array_equal(decoded(data, None), decode_image(data))
        assert size_of(data, None) == image_size(data)


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_damage_is_told_as_without_the_short_way(name: str) -> None:
    """Any single byte changed: the same pixels, or the same reason."""
    data = PLAIN[name]
    places = np.random.default_rng(0).integers(2, len(data) - 20, 150)

    def outcomes(decode: Callable[[bytes], np.ndarray]) -> list[Any]:
        found: list[Any] = []
        for place in places.tolist():
            spoilt = bytearray(data)
            spoilt[place] ^= 0x55
            try:
                found.append(decode(bytes(spoilt)).tobytes())
            except RowRejected as rejection:
                found.append(rejection.reason)
        return found

    told, plainly = outcomes(lambda spoilt: decoded(spoilt, plain_image(spoilt))), outcomes(decode_image)
    assert [place for place, one, other in zip(places.tolist(), told, plainly, strict=True) if one != other] == []


def test_a_header_that_lies_is_no_plain_image() -> None:
    data = PLAIN["png"]
    found = plain_image(data)
    assert found is not None and decode_plain(data[:200], found) is None
