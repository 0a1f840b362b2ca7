"""Any Pillow image as 8-bit sRGB: depth, palette, colour space, embedded profile and transparency, each once."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_PROFILE_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}
"""Pillow mode -> the colour space that a profile must describe to be applied to it."""
_SRGB_TOLERANCE = 2
"""A profile that moves no colour by more than this many levels is sRGB: pixels are then left exactly as they are."""
_PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


class DepthUnknownError(ValueError):
    """The pixels are 32-bit numbers, for which no white level is defined."""


def to_srgb(image: Image.Image) -> Image.Image:
    """A decoded image as mode "RGB" in sRGB, without transparency.

    Plain RGB without a profile comes back with its very pixels. 16-bit grey is scaled by 255 / 65535 and rounded.
    An embedded ICC profile is applied (relative colorimetric, black point compensated) where it is readable and
    describes the image's own colour space, and ignored otherwise. Transparency is flattened on white.

    Raises:
        DepthUnknownError: 32-bit integer or floating-point pixels.
    """
    profile = image.info.get("icc_profile")
    image = _to_eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, "white")
        flat.paste(_apply_profile(rgba.convert("RGB"), profile), mask=rgba.getchannel("A"))
        return flat
    if image.mode not in _PROFILE_SPACES:
        image = image.convert("RGB")
    return _apply_profile(image, profile)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in ("F", "I") and image.format != "PPM":
        raise DepthUnknownError(image.mode)
    if image.mode not in ("F", "I") and not image.mode.startswith("I;16"):
        return image
    # Pillow's own conversion clips everything above 255. It scales deep PPM files to 0..65535 as it reads them.
    bits = 16
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        bits = int(tags.get(258, (16,))[0])
    white = 2**bits - 1
    levels = np.asarray(image).astype(np.uint32)
    scaled = Image.fromarray(((levels * 255 + white // 2) // white).clip(0, 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        scaled.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return scaled


def _apply_profile(image: Image.Image, profile: object) -> Image.Image:
    if isinstance(profile, bytes) and profile:
        transform = _transform(profile, image.mode)
        if transform is not None:
            return transform.apply(image)
    return image.convert("RGB")


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from an embedded profile to sRGB, or None where there is nothing to do or it cannot be used."""
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if embedded.profile.xcolor_space != _PROFILE_SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            embedded,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "RGB" and _moves_nothing(transform):
            return None
    except _PROFILE_ERRORS:
        return None
    return transform


def _moves_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    # (18, 18 * 18, 3): an even grid of colours.
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(18, -1, 3)
    moved = np.asarray(transform.apply(Image.fromarray(colours)))
    return int(np.abs(moved.astype(np.int16) - colours).max()) <= _SRGB_TOLERANCE
