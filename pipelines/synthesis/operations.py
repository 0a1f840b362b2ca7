"""The operations that edits are made of. Each leaves every pixel alone where its alpha is 0.

Shape legend: H, W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.synthesis.regions import Alpha, Mask, Pixels

COLOURS: dict[str, float] = {
    "red": 0.0,
    "orange": 30.0,
    "yellow": 55.0,
    "green": 120.0,
    "teal": 175.0,
    "blue": 225.0,
    "purple": 275.0,
    "pink": 325.0,
}
"""Colour -> hue in degrees."""


def blend(pixels: Pixels, other: npt.NDArray[np.float32], alpha: Alpha) -> Pixels:
    """`other` over `pixels` where `alpha` says; (H, W, 3) uint8, equal to `pixels` where alpha is 0."""
    mixed = pixels + (other - pixels.astype(np.float32)) * alpha[..., None]
    return np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.uint8)


def recolour(pixels: Pixels, alpha: Alpha, hue: float) -> Pixels:
    """Give a region the hue `hue` (degrees), keeping its light and shade; greys take on colour as well."""
    hsv = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL))
    saturation = np.clip(hsv[..., 1] * 0.5 + 120.0, 0, 255)
    value = np.clip(hsv[..., 2] * 0.8 + 45.0, 0, 255)
    painted = np.stack([np.full_like(saturation, hue / 360.0 * 255.0), saturation, value], axis=-1)
    rgb = cv2.cvtColor(np.rint(painted).astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)
    return blend(pixels, np.asarray(rgb, dtype=np.float32), alpha)


def mean_hue(pixels: Pixels, region: Mask) -> float | None:
    """The hue of a region in degrees, weighted by saturation; None where it is as good as grey."""
    hsv = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL))[region].astype(np.float64)
    weight = hsv[:, 1] * hsv[:, 2] / 255.0**2
    turn = np.sum(weight * np.exp(2j * np.pi * hsv[:, 0] / 255.0))
    if np.abs(turn) < 0.05 * len(weight):
        return None
    return float(np.degrees(np.angle(turn)) % 360.0)


def paste(pixels: Pixels, patch: Pixels, patch_alpha: Alpha, top: int, left: int) -> tuple[Pixels, Alpha]:
    """Lay `patch` over `pixels` with its top left corner at (`top`, `left`), cut off at the borders.

    Args:
        patch: (h, w, 3) uint8.
        patch_alpha: (h, w) float32 in 0..1.

    Returns:
        the image, and the (H, W) alpha with which the patch lies on it.
    """
    height, width = pixels.shape[:2]
    rows = slice(max(0, top), min(height, top + patch.shape[0]))
    columns = slice(max(0, left), min(width, left + patch.shape[1]))
    source = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    canvas, alpha = pixels.astype(np.float32), np.zeros((height, width), np.float32)
    canvas[rows, columns] = patch[source]
    alpha[rows, columns] = patch_alpha[source]
    return blend(pixels, canvas, alpha), alpha


def remove(pixels: Pixels, region: Mask) -> Pixels:
    """Fill a region from its surroundings (Telea 2004)."""
    return np.asarray(cv2.inpaint(pixels, region.astype(np.uint8), 5, cv2.INPAINT_TELEA), dtype=np.uint8)


def relight(pixels: Pixels, alpha: Alpha, gains: tuple[float, float, float]) -> Pixels:
    """Multiply a region's channels by `gains`; where they brighten, black is lifted a little as well."""
    lift = 12.0 if max(gains) > 1.0 else 0.0
    return blend(pixels, (pixels * np.asarray(gains, np.float32) + np.float32(lift)).clip(0, 255), alpha)


def grade(pixels: Pixels, gains: tuple[float, float, float], gamma: float) -> Pixels:
    """Colour grading of the whole image: a gain for each channel, after a gamma."""
    toned = 255.0 * (pixels / np.float32(255.0)) ** np.float32(gamma)
    return np.asarray(np.clip(np.rint(toned * np.asarray(gains, np.float32)), 0, 255), dtype=np.uint8)


def striped_ball(size: int, hue: float, random: np.random.Generator) -> tuple[Pixels, Alpha]:
    """A shaded ball with slanted stripes, `size` pixels wide: (size, size, 3) uint8 and its (size, size) alpha."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2.0 - 1.0
    x, y = np.meshgrid(axis, axis)
    radius = np.hypot(x, y)
    slant = random.uniform(0.0, np.pi)
    stripes = np.sin((x * np.cos(slant) + y * np.sin(slant)) * random.uniform(8.0, 14.0)) > 0.0
    shade = 1.0 - 0.5 * np.clip(np.hypot(x + 0.35, y + 0.35), 0.0, 1.0)
    hsv = np.stack([np.full_like(x, hue / 360.0 * 255.0), np.where(stripes, 230.0, 70.0), 250.0 * shade], axis=-1)
    ball = np.asarray(cv2.cvtColor(np.rint(hsv).astype(np.uint8), cv2.COLOR_HSV2RGB_FULL), dtype=np.uint8)
    edge = np.clip((1.0 - radius) * size / 3.0, 0.0, 1.0)
    return ball, edge.astype(np.float32)
