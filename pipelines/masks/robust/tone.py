"""Tone drift between a reference and its target: a smooth curve for each channel, fitted where little was edited.

The curve is t = r + a + b r + c r ln r, which holds an offset, a gain, and to first order a gamma. It is fitted by
iteratively reweighted least squares on a strongly reduced copy, where noise and texture have averaged out, starting
from "nothing drifted", and on those cells alone that a slight drift can reach: a replaced background has no say in it,
however large. A curve is taken only where it explains clearly more of the image than none does, takes nothing out of
agreement, and is slight: a strong one is an edit. Where it explains nearly all, it is an edit of the whole image; so is
a strong mixing of the channels (made grey, sepia, another hue) that explains nearly all of many colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import Pixels
from pipelines.masks.robust.survey import AGREES, Cells, agreement, disagreement

Curves = npt.NDArray[np.float64]

_ROUNDS = 6
_SETTLED = 2e-4
"""Curves that move by less in a round are taken."""
_HELD = np.array([5e-8, 5e-6, 2e-5])
_MIDDLE = 0.4
"""The share of the cells, those that are explained best, that sets the scale of what counts as explained."""
_REACH = 4.0
_LEAST_REACH = 2.5
"""In grey levels."""
_LEAST_GAIN = 0.04
"""A curve must explain this share of the image more than none does, or halve what is left."""
_LEAST_KNOWN = 32
"""Cells, of those that are looked at, from which a mixing is fitted."""
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
_MIXED = 0.7
"""The share of the image that a mixing of the channels must explain, ..."""
_MANY_COLOURS = 0.06
"""... and the spread, as a share of the range, of the colours that it moves: one colour that changed is an object's."""
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
    drift = _Change.of(_drift(curves, first), first, second, content)
    better = drift.explained >= plain + _LEAST_GAIN or (
        drift.explained >= plain
        and drift.displacement > _LEAST_DRIFT
        and float(np.median(drift.left[content])) <= _HALVED * float(np.median(before[content]))
    )
    accepted = better and drift.displacement <= _SLIGHT and _lost(before, drift.left, content) <= _MOST_LOST
    explained, left = (drift.explained, drift.left) if accepted else (plain, before)
    whole = False
    if explained <= _UNGRADED:
        strong = _fit(first[content][::2], second[content][::2])
        grading = _Change.of(_drift(strong, first), first, second, content)
        whole = grading.grades(explained, left, content)
        if whole:
            curves, drift = strong, grading
    if not whole and plain <= _UNGRADED:
        mixing = _Change.of(_mixing(first, second, content), first, second, content)
        whole = (
            mixing.explained >= _MIXED
            and mixing.colours(first, content) >= _MANY_COLOURS
            and mixing.grades(plain, before, content)
        )
        if whole:
            drift = mixing
    return Tone(curves, drift.displacement, plain, drift.explained, bool(accepted and not whole), bool(whole))


@dataclass(frozen=True)
class _Change:
    """What a curve or a mixing does: its displacements (r, c, 3) in 0..1, their 95th percentile in grey levels, the
    share explained, and what is left: (r, c)."""

    moved: Cells
    displacement: float
    explained: float
    left: Cells

    @classmethod
    def of(cls, moved: Cells, first: Cells, second: Cells, content: npt.NDArray[np.bool_]) -> _Change:
        left = disagreement(np.clip(first + moved, 0.0, 1.0), second)
        displacement = float(np.percentile(np.abs(moved[content][::2]), _NEARLY_ALL, axis=0).max()) * 255.0
        return cls(moved, displacement, _share(left <= AGREES, content), left)

    def grades(self, explained: float, left: Cells, content: npt.NDArray[np.bool_]) -> bool:
        """Whether it is strong, explains much more than was explained before, and takes nothing out of agreement."""
        return (
            self.displacement > _SLIGHT
            and self.explained >= explained + _GRADED
            and _lost(left, self.left, content) <= _MOST_LOST
        )

    def colours(self, first: Cells, content: npt.NDArray[np.bool_]) -> float:
        """The spread of the colours that it moves visibly: standard deviation over the cells, in 0..1."""
        visible = content & (np.abs(self.moved).max(axis=-1) * 255.0 > AGREES)
        return float(np.sqrt(first[visible].var(axis=0).mean())) if visible.any() else 0.0


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
    levels = np.ascontiguousarray(first.T)
    # (3, 3, n): channel, basis, cell.
    base = np.stack([np.ones_like(levels), levels, _bent(levels)], axis=1)
    change = second.T - levels
    # Clipped levels tell nothing of the curve.
    told = ((second > 0.01) & (second < 0.99)).T
    # Gain and bend are held back a little: few levels in an image say little about the others.
    held = np.diag(_HELD * count + 1e-9)
    rank = int(_MIDDLE * count)
    curves, left = np.zeros((3, 3)), change
    for _ in range(_ROUNDS):
        middle = np.partition(np.abs(left), rank, axis=1)[:, rank, None]
        reach = np.maximum(_REACH * middle, _LEAST_REACH / 255.0)
        weighted = base * (told * np.maximum(1.0 - (left / reach) ** 2, 0.0) ** 2)[:, None]
        solved = np.linalg.solve(weighted @ base.transpose(0, 2, 1) + held, weighted @ change[..., None])[..., 0]
        left = change - (solved[:, None] @ base)[:, 0]
        settled = float(np.abs(solved - curves).max()) < _SETTLED
        curves = solved
        if settled:
            break
    return curves


def _mixing(first: Cells, second: Cells, content: npt.NDArray[np.bool_]) -> Cells:
    """Where the affine mixing of the channels that explains the cells best moves them: (r, c, 3).

    Iteratively reweighted, as the curves are.
    """
    base = np.concatenate([np.ones_like(first[..., :1]), first], axis=-1)
    # Clipped levels tell nothing of the mixing.
    chosen = content & ((second > 0.01) & (second < 0.99)).all(axis=-1)
    known, change = base[chosen][::3], (second - first)[chosen][::3]
    if len(known) < _LEAST_KNOWN:
        return np.zeros_like(first)
    held = _HELD[1] * len(known) * np.eye(4)
    weight = np.ones(len(known))
    for _ in range(_ROUNDS):
        weighted = known * weight[:, None]
        mixing = np.linalg.solve(weighted.T @ known + held, weighted.T @ change)
        left = np.abs(change - known @ mixing).max(axis=1)
        reach = max(_REACH * float(np.quantile(left, _MIDDLE)), _LEAST_REACH / 255.0)
        weight = np.maximum(1.0 - (left / reach) ** 2, 0.0) ** 2
    return np.asarray(base @ mixing)
