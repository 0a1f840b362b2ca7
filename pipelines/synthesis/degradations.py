"""What stands between a reference and a target outside the edit: codecs, VAEs, resampling, shifts and tone drift.

Each degradation takes a pair of images and returns a pair. Those of geometry act on the reference, so that a known
region, which is in the target's frame, stays where it is.

Shape legend: H, W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from pipelines.synthesis.regions import Pixels

Degradation = Callable[[Pixels, Pixels, np.random.Generator], tuple[Pixels, Pixels]]
"""(reference, target, random) -> (reference, target), each (H, W, 3) uint8."""


def jpeg(pixels: Pixels, quality: int, subsampling: str = "4:2:0") -> Pixels:
    """`pixels` after a JPEG round trip of `quality` 1..95."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality, subsampling=subsampling)
    return np.array(Image.open(stream).convert("RGB"))


def vae(pixels: Pixels, random: np.random.Generator, blur: float = 0.8, sigma: float = 4.0) -> Pixels:
    """What a VAE round trip leaves: softened by `blur` pixels, with smooth grain of `sigma` grey levels."""
    soft = cv2.GaussianBlur(pixels, (0, 0), blur).astype(np.float32)
    grain = random.standard_normal(pixels.shape).astype(np.float32)
    # Mostly of brightness, a little of colour.
    grain = cv2.GaussianBlur(0.4 * grain + grain.mean(axis=2, keepdims=True), (0, 0), 1.0)
    return _rounded(soft + grain * (sigma / float(grain.std())))


def resample(pixels: Pixels, factor: float = 0.75) -> Pixels:
    """`pixels` made smaller by `factor` and brought back, both with Lanczos."""
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((round(width * factor), round(height * factor)), Image.Resampling.LANCZOS)
    return np.array(small.resize((width, height), Image.Resampling.LANCZOS))


def moved(pixels: Pixels, shift: tuple[float, float], scale: float = 1.0) -> Pixels:
    """`pixels` scaled about the middle and shifted by (x, y) pixels, with cubic interpolation and mirrored borders."""
    height, width = pixels.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.array(
        [[scale, 0, (1 - scale) * middle[0] + shift[0]], [0, scale, (1 - scale) * middle[1] + shift[1]]], np.float64
    )
    warped = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, dtype=np.uint8)


def toned(pixels: Pixels, gain: float = 1.04, offset: float = 3.0, gamma: float = 1.06) -> Pixels:
    """`pixels` with a slight gain, offset (grey levels) and gamma."""
    return _rounded(255.0 * (pixels / np.float32(255.0)) ** np.float32(gamma) * gain + offset)


def chroma_halved(pixels: Pixels) -> Pixels:
    """`pixels` whose colour, but not brightness, is kept at half the resolution."""
    ycc = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    height, width = pixels.shape[:2]
    half = cv2.resize(ycc[..., 1:], ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    ycc[..., 1:] = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB), dtype=np.uint8)


def several(reference: Pixels, target: Pixels, random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A generated pair's usual fate: tone drift, a VAE, a fraction of a pixel's shift, and JPEG of quality 75."""
    return moved(reference, (-0.4, 0.3)), jpeg(vae(toned(target, 1.02, 2.0, 1.03), random), 75)


DEGRADATIONS: dict[str, Degradation] = {
    "none": lambda reference, target, random: (reference, target),
    "jpeg90": lambda reference, target, random: (reference, jpeg(target, 90)),
    "jpeg75": lambda reference, target, random: (reference, jpeg(target, 75)),
    "jpeg50": lambda reference, target, random: (reference, jpeg(target, 50)),
    "vae": lambda reference, target, random: (reference, vae(target, random)),
    "resample": lambda reference, target, random: (reference, resample(target)),
    "shift0.4": lambda reference, target, random: (moved(reference, (0.4, -0.3)), target),
    "shift3": lambda reference, target, random: (moved(reference, (3.0, -2.0)), target),
    "scale": lambda reference, target, random: (moved(reference, (0.0, 0.0), 1.005), target),
    "tone": lambda reference, target, random: (reference, toned(target)),
    "chroma": lambda reference, target, random: (reference, chroma_halved(target)),
    "several": several,
}
"""Name -> degradation."""


def _rounded(pixels: np.ndarray) -> Pixels:
    return np.asarray(np.clip(np.rint(pixels), 0, 255), dtype=np.uint8)
