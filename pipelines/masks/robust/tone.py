"""Tone drift between a reference and its target: a smooth curve for each channel, fitted where little was edited.

The curve is t = r + a + b r + c r ln r, which holds an offset, a gain, and to first order a gamma. It is fitted by
iteratively reweighted least squares on a strongly reduced copy, where noise and texture have averaged out, starting
from "nothing drifted", and on those cells alone that a slight drift can reach: a replaced background has no say in it,
however large. A curve is taken only where it explains clearly more of the image than none does, takes nothing out of
agreement, and is slight: a strong one is an edit. Where it explains nearly all, it is an edit of the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Pixels
from pipelines.masks.robust.survey import AGREES, Cells, agreement, disagreement

Curves = npt.NDArray[np.float64]

_ROUNDS = 6
_HELD = np.array([5e-8, 5e-6, 2e-5])
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
_LEAST_DRIFT = 0.5
"""In grey levels: less is no drift."""
_HALVED = 0.7
"""Or lower the median disagreement to this share."""
_GRADED = 0.45
"""A strong curve that explains this share of the image more than none does, where ..."""
_UNGRADED = 0.35
"""... at most this share agreed without it, is a grading of the whole image."""
_NEARLY_ALL = 95.0
"""Percentile of the displacements that a curve's drift is."""
_MOST_LOST = 0.03
"""A curve may take this share of the image, at most, out of agreement: what agreed without it had not drifted."""
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
    before = disagreement(first, second)
    plain = _share(before <= AGREES, content)
    if plain > 1.0 - _LEAST_GAIN and float(np.median(before[content])) < _LEAST_DRIFT:
        return Tone(np.zeros((3, 3)), 0.0, plain, plain, accepted=False, whole_image=False)
    near = content & (before <= _SLIGHT + _LEAST_REACH)
    curves = _fit(first[near][::2], second[near][::2]) if np.mean(near) >= _LEAST_CONTENT else np.zeros((3, 3))
    drift = _Curve.of(curves, first, second, content)
    better = drift.explained >= plain + _LEAST_GAIN or (
        drift.explained >= plain
        and drift.displacement > _LEAST_DRIFT
        and float(np.median(drift.left[content])) <= _HALVED * float(np.median(before[content]))
    )
    accepted = better and drift.displacement <= _SLIGHT and _lost(before, drift.left, content) <= _MOST_LOST
    kept = drift if accepted else _Curve(np.zeros((3, 3)), 0.0, plain, before)
    whole = False
    if kept.explained <= _UNGRADED:
        grading = _Curve.of(_fit(first[content][::2], second[content][::2]), first, second, content)
        whole = (
            grading.displacement > _SLIGHT
            and grading.explained >= kept.explained + _GRADED
            and _lost(kept.left, grading.left, content) <= _MOST_LOST
        )
        if whole:
            drift = grading
    return Tone(drift.curves, drift.displacement, plain, drift.explained, bool(accepted and not whole), bool(whole))


@dataclass(frozen=True)
class _Curve:
    """Curves with their 95th percentile displacement in grey levels, the share explained, and what is left: (r, c)."""

    curves: Curves
    displacement: float
    explained: float
    left: Cells

    @classmethod
    def of(cls, curves: Curves, first: Cells, second: Cells, content: npt.NDArray[np.bool_]) -> _Curve:
        moved = _drift(curves, first)
        left = disagreement(first + moved, second)
        displacement = float(np.percentile(np.abs(moved[content]), _NEARLY_ALL, axis=0).max()) * 255.0
        return cls(curves, displacement, _share(left <= AGREES, content), left)


def _share(cells: npt.NDArray[np.bool_], content: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(cells[content]))


def _lost(before: Cells, after: Cells, content: npt.NDArray[np.bool_]) -> float:
    """The share of the image, in patches, that agrees before a curve and no longer after it: it did not drift."""
    return agreement(np.where((after > AGREES) & content, before, np.inf))


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
