"""Registration of a reference onto its target: a small affine motion, taken only where it lowers the residual.

Phase correlation finds a start, then iteratively reweighted Gauss-Newton steps (Lucas and Kanade 1981, with a trimmed
residual so that an edit does not pull) refine an affine motion on a reduced, band-passed copy: tone drift falls out of
it, and the cost does not grow with the image.

Shape legend: H, W pixels; h, w pixels of the reduced copy; N pixels with a strong gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Mask, Pixels
from pipelines.masks.robust.survey import reduced

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

SURVEY_SIDE = 256
"""Longer side of the reduced copy, in pixels."""
_BAND_SIGMA = 3.0
_STEPS = 6
_ON = 0.985
"""A step that does not lower the residual to this share is the last."""
_GRADIENT_SHARE = 0.25
"""Share of the pixels, those with the strongest gradients, that take part."""
_MARGIN_SHARE = 0.02
"""What lies this near to the border, as a share of the longer side, may have moved out of the image."""
_TRIMMED_SHARE = 0.7
"""Share of the smallest residuals that a residual is the mean of."""
_FAR = 0.8
"""Residual, in grey levels, under which the images are near enough for the refinement alone."""
_LARGEST_SHIFT = 0.04
_LARGEST_SCALE = 0.04
_LEAST_GAIN = 0.08
"""A motion must lower the residual by this share."""
_LEAST_MOTION = 0.03
"""Motions under this many pixels of the image are left alone: resampling would cost more than it gives."""
_SEEN_BEYOND = 0.25
"""How far beyond the middle of its outermost pixels an image is taken to show what it would hold there, in pixels."""


@dataclass(frozen=True)
class Motion:
    """Where each target pixel lies in the reference: x_reference = matrix @ (x_target, 1).

    Args:
        matrix: (2, 3), in pixels of the image.
        shift: (x, y) of the image's middle, in pixels.
        scale: (x, y).
        residual_before, residual_after: trimmed mean of the band-passed absolute difference, in grey levels, without
            and with the motion found.
        accepted: whether the motion is to be applied.
        mismatch: the residual that is left, as a share of the target's own band where its gradients are strong: 0 for
            the same drawing, near 1 for another scene.
    """

    matrix: Matrix
    shift: tuple[float, float]
    scale: tuple[float, float]
    residual_before: float
    residual_after: float
    accepted: bool
    mismatch: float


def estimate_motion(reference: Pixels, target: Pixels) -> Motion:
    """The motion between two (H, W, 3) uint8 images of one shape."""
    height, width = target.shape[:2]
    factor = min(1.0, SURVEY_SIDE / max(height, width))
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    first, second = (_band(image, size) for image in (reference, target))
    places, jacobian = _strong_gradients(second)
    there, here = second.ravel()[places], first.ravel()[places]
    before = _residual(here, there)
    strength = max(float(np.mean(np.abs(there))), 1e-3) if places.size else 1e-3
    start = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    unmoved = before / strength
    still = Motion(_in_pixels(start, size, (width, height)), (0.0, 0.0), (1.0, 1.0), before, before, False, unmoved)
    if before < 0.05 or places.size < 64:
        return still
    best, least = start, before
    guess = _phase_guess(first, second) if before >= _FAR else None
    if guess is not None:
        guessed = _warped(first, guess, places)
        if (cost := _residual(guessed, there)) < before:
            best, least, here = guess, cost, guessed
    current = best
    for _ in range(_STEPS):
        current = _improved(current, here, there, jacobian, size)
        here = _warped(first, current, places)
        cost = _residual(here, there)
        gained = cost < least * _ON
        if cost < least:
            best, least = current, cost
        if not gained:
            break
    matrix = _in_pixels(best, size, (width, height))
    middle = np.array([(width - 1) / 2, (height - 1) / 2, 1.0])
    shift = matrix @ middle - middle[:2]
    scale = (float(matrix[0, 0]), float(matrix[1, 1]))
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]], np.float64)
    reach = float(np.abs(corners @ matrix.T - corners[:, :2]).max())
    accepted = (
        least <= (1.0 - _LEAST_GAIN) * before
        and reach >= _LEAST_MOTION
        and float(np.abs(shift).max()) <= _LARGEST_SHIFT * max(height, width)
        and float(np.abs(matrix[:, :2] - np.eye(2)).max()) <= _LARGEST_SCALE
    )
    left = least / strength if accepted else unmoved
    return Motion(matrix, (float(shift[0]), float(shift[1])), scale, before, least, accepted, left)


def apply_motion(reference: Pixels, motion: Motion) -> tuple[Pixels, Mask]:
    """The reference moved onto the target (linear), and where it shows what it did not hold: (H, W) bool."""
    height, width = reference.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # OpenCV moves four channels in half the time that it takes for three.
    padded = cv2.cvtColor(reference, cv2.COLOR_RGB2RGBA)
    moved = cv2.warpAffine(padded, motion.matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    # The largest upright rectangle that every row and column of it can see.
    outside = np.ones((height, width), np.bool_)
    across, down = (_seen(motion.matrix[axis], axis, (width, height)) for axis in (0, 1))
    outside[down, across] = False
    return np.asarray(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), dtype=np.uint8), outside


def _seen(row: npt.NDArray[np.float64], axis: int, size: tuple[int, int]) -> slice:
    """The range of target columns (axis 0) or rows (axis 1) whose place in the reference lies inside it."""
    drift = row[1 - axis] * np.array([0.0, size[1 - axis] - 1.0])
    first = (-_SEEN_BEYOND - row[2] - drift.min()) / row[axis]
    last = (size[axis] - 1 + _SEEN_BEYOND - row[2] - drift.max()) / row[axis]
    return slice(max(0, int(np.ceil(first))), min(size[axis], int(np.floor(last)) + 1))


def _band(image: Pixels, size: tuple[int, int]) -> Floats:
    grey = cv2.cvtColor(reduced(image, size), cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), 0.7)
    return np.asarray(soft - cv2.GaussianBlur(soft, (0, 0), _BAND_SIGMA), dtype=np.float32)


def _strong_gradients(band: Floats) -> tuple[Places, Floats]:
    """Where the gradients are strong, as (N,) flat places, and the (6, N) derivatives by the motion there."""
    height, width = band.shape
    across = cv2.Sobel(band, cv2.CV_32F, 1, 0, scale=0.125)
    down = cv2.Sobel(band, cv2.CV_32F, 0, 1, scale=0.125)
    strength = across * across + down * down
    margin = min(max(2, round(_MARGIN_SHARE * max(height, width))), min(height, width) // 4)
    inner = strength[margin : height - margin, margin : width - margin]
    sampled = inner[::2, ::2].ravel()
    rank = int(sampled.size * (1.0 - _GRADIENT_SHARE))
    least = np.partition(sampled, rank)[rank]
    rows, columns = np.nonzero(inner > max(float(least), 0.01))
    # Every third one says enough.
    rows, columns = rows[::3] + margin, columns[::3] + margin
    places = rows * width + columns
    x = ((columns - (width - 1) / 2) / width).astype(np.float32)
    y = ((rows - (height - 1) / 2) / height).astype(np.float32)
    gx, gy = across.ravel()[places], down.ravel()[places]
    return places, np.stack([gx, gy, gx * x, gx * y, gy * x, gy * y])


def _improved(matrix: Matrix, here: Floats, there: Floats, jacobian: Floats, size: tuple[int, int]) -> Matrix:
    width, height = size
    difference = there - here
    apart = np.abs(difference)
    scale = float(np.partition(apart, apart.size // 2)[apart.size // 2]) * 1.4826 + 1e-3
    weight = np.maximum(1.0 - (difference / np.float32(3.0 * scale)) ** 2, 0.0) ** 2
    weighted = jacobian * weight
    normal = (weighted @ jacobian.T).astype(np.float64)
    normal[np.diag_indices(6)] += 1e-3 * np.trace(normal) / 6 * np.array([1e-3, 1e-3, 1, 1, 1, 1])
    step = np.linalg.solve(normal, (weighted @ difference).astype(np.float64))
    linear = np.array([[step[2] / width, step[3] / height], [step[4] / width, step[5] / height]])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    moved = matrix.copy()
    moved[:, :2] += linear
    moved[:, 2] += step[:2] - linear @ middle
    return moved


def _phase_guess(first: Floats, second: Floats) -> Matrix | None:
    # Half the size is enough for a start.
    size = (max(4, first.shape[1] // 2), max(4, first.shape[0] // 2))
    halves = [np.asarray(cv2.resize(band, size, interpolation=cv2.INTER_AREA), np.float32) for band in (first, second)]
    (x, y), _ = cv2.phaseCorrelate(halves[0], halves[1], cv2.createHanningWindow(size, cv2.CV_32F))
    x, y = x * first.shape[1] / size[0], y * first.shape[0] / size[1]
    if max(abs(x), abs(y)) > _LARGEST_SHIFT * max(first.shape):
        return None
    return np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])


def _warped(band: Floats, matrix: Matrix, places: Places) -> Floats:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (band.shape[1], band.shape[0])
    moved = cv2.warpAffine(band, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32).ravel()[places]


def _residual(here: Floats, there: Floats) -> float:
    apart = np.abs(here - there)
    if not apart.size:
        return 0.0
    count = max(1, int(apart.size * _TRIMMED_SHARE))
    return float(np.partition(apart, count - 1)[:count].mean())


def _in_pixels(matrix: Matrix, small: tuple[int, int], full: tuple[int, int]) -> Matrix:
    """The motion of the reduced copy in pixels of the image; pixel centres are at whole numbers in both."""
    up = np.array([full[0] / small[0], full[1] / small[1]])
    offset = (up - 1.0) / 2.0
    linear = matrix[:, :2] * up[:, None] / up[None, :]
    return np.hstack([linear, (matrix[:, 2] * up + offset - linear @ offset)[:, None]])
