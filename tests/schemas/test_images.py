"""Every image file becomes an upright sRGB image, or a rejection with a reason; nothing else."""

import io
import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms, ImageOps

from schemas.errors import RowRejected
from schemas.images import decode_image, decode_mask, encode_mask, image_extension, image_size

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
AWKWARD = sorted(path for path in (SHARED / "formats").glob("*") if path.suffix != ".jsonl")
REAL = sorted(path for path in (SHARED / "real_pairs").glob("*") if path.suffix != ".jsonl")
REASONS = {"image_empty", "image_corrupt", "image_truncated", "image_too_large", "image_format_unknown"}


def photograph(height=40, width=56):
    smooth = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    return np.asarray(Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC))


def save(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reason(data, **options):
    with pytest.raises(RowRejected) as rejection:
        decode_image(data, **options)
    assert len(rejection.value.sentence) > 15
    return rejection.value.reason


RGB = photograph()
ENCODED = {
    "JPEG": save(Image.fromarray(RGB), "JPEG", quality=90),
    "PNG": save(Image.fromarray(RGB), "PNG"),
    "WEBP": save(Image.fromarray(RGB), "WEBP", quality=80),
    "GIF": save(Image.fromarray(RGB), "GIF"),
    "BMP": save(Image.fromarray(RGB), "BMP"),
    "TIFF": save(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"),
    "AVIF": save(Image.fromarray(RGB), "AVIF"),
    "JPEG2000": save(Image.fromarray(RGB), "JPEG2000"),
    "PPM": save(Image.fromarray(RGB), "PPM"),
    "QOI": save(Image.fromarray(RGB), "QOI"),
}
EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}


@pytest.mark.parametrize("kind", ENCODED)
def test_plain_rgb_has_the_very_pixels_that_pillow_gives(kind):
    pixels = decode_image(ENCODED[kind])
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(ENCODED[kind])).convert("RGB")))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert image_size(ENCODED[kind]) == (56, 40)
    assert image_extension(ENCODED[kind]) == EXTENSIONS.get(kind, kind.lower())


@pytest.mark.parametrize("where", ["before", "behind"])
def test_the_orientation_of_a_png_is_met_before_and_behind_its_pixels(where):
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    stream = io.BytesIO()
    Image.new("RGB", (56, 40)).save(stream, "PNG")
    data = stream.getvalue()
    at = data.index(b"IDAT" if where == "before" else b"IEND") - 4
    data = data[:at] + chunk + data[at:]
    assert image_size(data) == (40, 56)
    assert decode_image(data).shape == (56, 40, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(Image.fromarray(RGB), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode_image(data), upright)
    assert image_size(data) == upright.shape[1::-1]
    assert (upright.shape == (56, 40, 3)) == (orientation >= 5)


def test_transparency_is_flattened_on_white():
    alpha = np.tile(np.linspace(0, 255, 56).round().astype(np.uint8), (40, 1))
    pixels = decode_image(save(Image.fromarray(np.dstack([RGB, alpha])), "PNG"))
    expected = (RGB * (alpha / 255.0)[..., None]) + 255 * (1 - alpha / 255.0)[..., None]
    assert np.abs(pixels - expected).max() <= 1
    assert (pixels[:, 0] == 255).all()
    np.testing.assert_array_equal(pixels[:, -1], RGB[:, -1])


def test_a_transparent_palette_entry_is_white():
    palette = Image.fromarray((np.arange(64).reshape(8, 8) % 3).astype(np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 250])
    for kind in ("PNG", "GIF"):
        pixels = decode_image(save(palette, kind, transparency=1))
        index = np.arange(64).reshape(8, 8) % 3
        assert (pixels[index == 0] == (10, 20, 30)).all()
        assert (pixels[index == 1] == 255).all()
        assert (pixels[index == 2] == (0, 0, 250)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    levels = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    pixels = decode_image(save(Image.fromarray(levels), kind))
    assert np.abs(pixels[..., 0] - levels / 257.0).max() <= 0.5
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_sixteen_bit_rgb_is_scaled_not_clipped():
    levels = np.random.default_rng(2).integers(0, 65536, (9, 11, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    pixels = decode_image(raw_png(11, 9, rows, depth=16, colour=2))
    assert np.abs(pixels - levels / 257.0).max() < 1


def raw_png(width, height, rows, *, depth=8, colour=2, level=6):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, level)) + chunk(b"IEND", b"")
    )


def test_deep_images_without_a_white_level_are_rejected():
    assert reason(save(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF")) == "image_format_unknown"
    assert reason(save(Image.fromarray(np.ones((9, 9), np.int32)), "TIFF")) == "image_format_unknown"


def test_cmyk_and_lab_become_srgb():
    cmyk = Image.fromarray(RGB).convert("CMYK")
    np.testing.assert_array_equal(decode_image(save(cmyk, "TIFF")), np.asarray(cmyk.convert("RGB")))
    lab = ImageCms.applyTransform(
        Image.fromarray(RGB),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    )
    assert np.abs(decode_image(save(lab, "TIFF")).astype(int) - RGB).mean() < 3


def test_an_srgb_profile_leaves_the_pixels_alone_and_a_broken_one_is_ignored():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (srgb, lab, b"no profile at all", srgb[: len(srgb) // 2]):
        np.testing.assert_array_equal(decode_image(save(Image.fromarray(RGB), "PNG", icc_profile=profile)), RGB)


@pytest.mark.skipif(not REAL, reason="the real pairs are not on this machine")
def test_the_same_photograph_under_two_profiles_looks_the_same():
    files = [SHARED / "real_pairs" / f"jxl_cs_cvo9xd_{side}.png" for side in ("src", "tgt")]
    one, other = (decode_image(file.read_bytes()).astype(int) for file in files)
    raw = [np.asarray(Image.open(file)).astype(int) for file in files]
    # The second stores light linearly, in 16 bits of which Pillow keeps 8: its dark tones are coarse.
    assert np.abs(one - other).mean() < 3
    assert np.abs(raw[0] - raw[1]).mean() > 20


def test_only_the_first_frame_of_an_animation_counts():
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    data = save(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(decode_image(data), RGB)


def test_an_enormous_image_is_rejected_by_its_header():
    bomb = raw_png(60_000, 60_000, b"\0" * 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason(bomb) == "image_too_large"
        assert reason(raw_png(10_000, 10_000, b"")) == "image_too_large"
    assert reason(ENCODED["PNG"], max_pixels=40 * 56 - 1) == "image_too_large"
    assert decode_image(ENCODED["PNG"], max_pixels=40 * 56).shape == (40, 56, 3)
    with pytest.raises(RowRejected, match="image_too_large"):
        image_size(bomb)


def test_no_bytes_and_no_image():
    assert reason(b"") == "image_empty"
    assert reason(None) == "image_empty"
    assert reason(b"<!DOCTYPE html><html></html>") == "image_format_unknown"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "image_format_unknown"
    with pytest.raises(RowRejected, match="image_format_unknown"):
        image_extension(b"\0" * 100)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_cut_anywhere_is_rejected(kind):
    data = ENCODED[kind]
    seen = {reason(data[:length]) for length in range(len(data))}
    assert seen <= {"image_empty", "image_format_unknown", "image_truncated"}
    assert reason(data[:-1]) == "image_truncated"


def test_an_embedded_thumbnail_does_not_hide_a_cut():
    thumbnail = save(Image.fromarray(RGB[:16, :16]), "JPEG")
    exif = Image.Exif()
    exif[0x010E] = "x"
    data = save(Image.fromarray(RGB), "JPEG", exif=exif.tobytes() + thumbnail)
    assert thumbnail[-2:] in data[: len(data) // 2]
    assert decode_image(data).shape == RGB.shape
    assert reason(data[: len(data) - 10]) == "image_truncated"


def mutations(data, count, seed):
    random = np.random.default_rng(seed)
    for _ in range(count):
        broken = bytearray(data)
        for _ in range(random.integers(1, 6)):
            at = int(random.integers(0, min(len(broken), 400 if random.random() < 0.6 else len(broken))))
            match random.integers(0, 4):
                case 0:
                    broken[at] = int(random.integers(0, 256))
                case 1:
                    del broken[at : at + int(random.integers(1, 30))]
                case 2:
                    broken[at:at] = random.bytes(int(random.integers(1, 30)))
                case _:
                    broken[at : at + 4] = b"\xff\xff\xff\xff"
            if not broken:
                break
        yield bytes(broken)


@pytest.mark.parametrize("kind", ENCODED)
def test_malformed_bytes_end_in_a_rejection_or_an_image(kind):
    for broken in mutations(ENCODED[kind], 120, seed=len(kind)):
        try:
            pixels = decode_image(broken, max_pixels=1_000_000)
        except RowRejected as rejection:
            assert rejection.reason in REASONS
        else:
            assert pixels.ndim == 3
            assert pixels.shape[1::-1] == image_size(broken, max_pixels=1_000_000)


@pytest.mark.skipif(not AWKWARD, reason="the awkward files are not on this machine")
@pytest.mark.parametrize("path", AWKWARD + REAL, ids=lambda path: path.name)
def test_real_files_decode_upright(path):
    data = path.read_bytes()
    pixels = decode_image(data)
    image = Image.open(path)
    upright = ImageOps.exif_transpose(image)
    assert pixels.shape == (upright.height, upright.width, 3)
    assert image_size(data) == upright.size
    if image.mode == "RGB" and "icc_profile" not in image.info:
        np.testing.assert_array_equal(pixels, np.asarray(upright))


@pytest.mark.skipif(not AWKWARD, reason="the awkward files are not on this machine")
def test_malformed_real_files_end_in_a_rejection_or_an_image():
    sizes = {record["file"]: record["size"] for record in map(json.loads, (SHARED / "formats" / "photos.jsonl").open())}
    for number, path in enumerate(path for path in AWKWARD if np.prod(sizes[path.name]) <= 20_000):
        for broken in mutations(path.read_bytes(), 40, seed=number):
            try:
                decode_image(broken, max_pixels=1_000_000)
            except RowRejected as rejection:
                assert rejection.reason in REASONS


@settings(max_examples=50)
@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_masks_survive_the_round_trip(mask):
    data = encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(data), mask)
    assert data == encode_mask(mask.copy(order="F"))
    image = Image.open(io.BytesIO(data))
    assert image.mode == "1"
    np.testing.assert_array_equal(np.asarray(image.convert("L")) == 255, mask)


def test_what_is_no_mask_is_refused():
    with pytest.raises(ValueError, match="bool"):
        encode_mask(np.zeros((4, 4), np.uint8))
    with pytest.raises(RowRejected, match="image_corrupt"):
        decode_mask(ENCODED["PNG"])
    with pytest.raises(RowRejected, match="image_truncated"):
        decode_mask(encode_mask(np.ones((64, 64), bool))[:-20])
