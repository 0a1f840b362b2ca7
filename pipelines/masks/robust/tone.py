"""Tone drift between a reference and its target: a smooth curve for each channel, fitted where little was edited.

The curve is t = r + a + b r + c r ln r, which holds an offset, a gain, and to first order a gamma. It is fitted by
iteratively reweighted least squares on a strongly reduced copy, where noise and texture have averaged out, starting
from "nothing drifted", so that an unchanged subject before a replaced background keeps its own. A curve is taken only
where it explains clearly more of the image than none does, and only while it is slight: a strong one is an edit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Pixels
from pipelines.masks.robust.survey import AGREES, Cells, disagreement

Curves = npt.NDArray[np.float64]

_ROUNDS = 6
_HELD = np.array([5e-8, 5e-6, 5e-6])
_MIDDLE = 0.4
"""The share of the cells, those that are explained best, that sets the scale of what counts as explained."""
_REACH = 4.0
_LEAST_REACH = 2.5
"""In grey levels."""
_LEAST_GAIN = 0.04
"""A curve must explain this share of the image more than none does, or halve what is left."""
_BLACK = 16.0
"""Cells up to this grey level in both images say nothing of tone."""
_LEAST_CONTENT = 0.03
_HALVED = 0.7
"""Or lower the median disagreement to this share."""
_GRADED = 0.45
"""A strong curve that explains this share of the image more than none does, where ..."""
_UNGRADED = 0.35
"""... at most this share agreed without it, is a grading of the whole image."""
_NEARLY_ALL = 95.0
"""Percentile of the displacements that a curve's drift is."""
_SLIGHT = 15.0
"""The drift, in grey levels of the most drifted channel, up to which a curve is drift; beyond, it is an edit."""


@dataclass(frozen=True)
class Tone:
    """A tone curve for each channel.

    Args:
        curves: (3, 3): a, b, c of each channel, with r and t in 0..1.
        drift: 95th percentile of the displacements of what is not black, in grey levels of the most drifted channel.
        explained_before, explained_after: share of what is not black explained without and with the curves, in 0..1.
        accepted: whether the curves are drift, to be taken out before the comparison.
        whole_image: whether the curves explain nearly everything and are too strong to be drift: the image was graded.
    """

    curves: Curves
    drift: float
    explained_before: float
    explained_after: float
    accepted: bool
    whole_image: bool

    def applied(self, first: Cells) -> Cells:
        """The curves on cells, (r, c, 3) in 0..1."""
        return np.asarray(first + _drift(self.curves, first))

    def table(self) -> Pixels:
        """(1, 256, 3) uint8, for `cv2.LUT` on a reference."""
        level = np.repeat(np.arange(256)[:, None] / 255.0, 3, axis=1)
        return np.asarray(np.clip(np.rint(self.applied(level) * 255.0), 0, 255), dtype=np.uint8)[None]


def fit_tone(first: Cells, second: Cells) -> Tone:
    """The tone curves between the cells of a reference and of a target that lie on each other."""
    content = _content(first, second)
    first, second = first[content], second[content]
    apart = disagreement(first, second)
    before = float(np.mean(apart <= AGREES))
    curves = _fit(first[::2], second[::2])
    moved = _drift(curves, first)
    left = disagreement(first + moved, second)
    after = float(np.mean(left <= AGREES))
    drift = float(np.percentile(np.abs(moved), _NEARLY_ALL, axis=0).max()) * 255.0
    better = after >= before + _LEAST_GAIN or (
        after >= before and drift > 0.5 and float(np.median(left)) <= _HALVED * float(np.median(apart))
    )
    whole = drift > _SLIGHT and after >= before + _GRADED and before <= _UNGRADED
    return Tone(curves, drift, before, after, bool(better and drift <= _SLIGHT), bool(whole))


def _content(first: Cells, second: Cells) -> npt.NDArray[np.bool_]:
    """The cells that are not black in both: black stays black under almost any curve. All, where hardly any are."""
    content = np.maximum(first, second).max(axis=-1) > _BLACK / 255.0
    return content if np.mean(content) >= _LEAST_CONTENT else np.ones_like(content)


def _drift(curves: Curves, first: Cells) -> Cells:
    return np.asarray(curves[:, 0] + curves[:, 1] * first + curves[:, 2] * _bent(first))


def _bent(level: Cells) -> Cells:
    """r ln r, the direction in which a gamma moves r."""
    return np.asarray(level * np.log(np.maximum(level, 1e-3)))


def _fit(first: Cells, second: Cells) -> Curves:
    """The curves between (n, 3) cells, all channels at once."""
    count = len(first)
    # (3, n, 3): channel, cell, basis.
    base = np.stack([np.ones_like(first), first, _bent(first)], axis=-1).transpose(1, 0, 2)
    change = (second - first).T
    # Clipped levels tell nothing of the curve.
    told = ((second > 0.01) & (second < 0.99)).T.astype(np.float64)
    # Gain and bend are held back a little: few levels in an image say little about the others.
    held = np.diag(_HELD * count + 1e-9)
    rank = int(_MIDDLE * count)
    curves = np.zeros((3, 3))
    for _ in range(_ROUNDS):
        left = change - np.einsum("kni,ki->kn", base, curves)
        middle = np.partition(np.abs(left), rank, axis=1)[:, rank, None]
        reach = np.maximum(_REACH * middle, _LEAST_REACH / 255.0)
        weight = told * np.maximum(1.0 - (left / reach) ** 2, 0.0) ** 2
        weighted = (base * weight[..., None]).transpose(0, 2, 1)
        curves = np.linalg.solve(weighted @ base + held, weighted @ change[..., None])[..., 0]
    return curves
