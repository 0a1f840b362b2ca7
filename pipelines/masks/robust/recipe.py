"""Recipe `robust`, the default: right under the noise, the shifts and the tone drift of today's editing models.

The four steps are those of every recipe; step 1 first brings the images together (registration, tone, blur), then
holds their difference against the pair's own noise, with hysteresis. See the files beside this one, one idea each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, ClassVar

import cv2
import numpy as np

from pipelines.masks.difference import Mask, Pixels, intersect, least
from pipelines.masks.morphology import close
from pipelines.masks.recipe import Difference, Judgement, MaskRecipe, MaskResult, check_images
from pipelines.masks.robust.align import apply_motion, estimate_motion
from pipelines.masks.robust.confidence import edit_confidence, unchanged_confidence, whole_confidence
from pipelines.masks.robust.displaced import drop_displaced
from pipelines.masks.robust.heat import UNIT, measure_coarse_heat, measure_heat
from pipelines.masks.robust.hysteresis import threshold_at_two_scales
from pipelines.masks.robust.likeness import Likeness, measure_likeness
from pipelines.masks.robust.parameters import RobustParameters
from pipelines.masks.robust.regions import choose_components, fill_holes
from pipelines.masks.robust.sharpness import match_sharpness, soften
from pipelines.masks.robust.survey import agreement, cells, disagreement, unedited
from pipelines.masks.robust.tone import fit_tone
from pipelines.masks.robust.working import enlarge_by, reduce_by, working_factor
from schemas.config import Config
from schemas.masks import MaskStatus, edited_fraction, max_pool

_SAME_EDGES = 0.12
"""Up to this mismatch of its strong gradients a pair is neither redrawn nor another scene: no closer look is needed. Of
pairs below it, none had detail that correlated under 0.98 where it did best."""
_MOST_AGREES = 0.5
_SAME_STRUCTURE = 0.4
"""The structure from which on most of what is shown is where it was, ..."""
_MOSTLY = 0.6
"""... and the share of the image with detail from which on detail speaks for all of it."""


@dataclass(frozen=True)
class RobustDifference(Difference):
    """Step 1's outcome, with the images as they were compared: (H, W, 3) uint8 each."""

    compared: tuple[Pixels, Pixels] = field(kw_only=True)


class RobustRecipe(MaskRecipe[RobustParameters]):
    """See the module. An empty mask is `unchanged` and stays empty, never "the whole image"."""

    name: ClassVar[str] = "robust"
    version: ClassVar[int] = 2
    parameters_class: ClassVar[type[Config]] = RobustParameters
    growth: ClassVar[str] = "closing"

    def build(self, references: Sequence[Pixels], target: Pixels) -> MaskResult:
        """As every recipe's, on a reduced copy of a large pair; in the evidence, shifts are in pixels of the pair."""
        check_images(references, target)
        factor = working_factor(target.shape[0], target.shape[1], self.parameters.working_side)
        if factor == 1:
            return super().build(references, target)
        small = super().build([reduce_by(one, factor) for one in references], reduce_by(target, factor))
        mask = enlarge_by(small.mask, factor, (target.shape[0], target.shape[1]))
        for found in small.evidence["references"]:
            if "registration" in found:
                found["registration"]["shift"] = [round(factor * one, 3) for one in found["registration"]["shift"]]
        return replace(
            small,
            mask=mask,
            edited_fraction=edited_fraction(mask),
            stages={**small.stages, "pooled": self.pool(mask)},
            evidence={**small.evidence, "averaged": factor},
        )

    def difference(self, reference: Pixels, target: Pixels) -> RobustDifference:
        """Bring together, measure in noise levels, threshold with hysteresis."""
        parameters = self.parameters
        evidence: dict[str, Any] = {}
        outside: Mask | None = None
        mismatch = np.inf
        if parameters.register_images:
            motion = estimate_motion(reference, target)
            mismatch = motion.mismatch
            if motion.accepted:
                reference, outside = apply_motion(reference, motion)
            evidence["registration"] = {
                "shift": [round(one, 3) for one in motion.shift],
                "scale": [round(one, 5) for one in motion.scale],
                "residual_before": round(motion.residual_before, 3),
                "residual_after": round(motion.residual_after, 3),
                "mismatch": round(mismatch, 3),
                "applied": motion.accepted,
            }
        first, second = cells(reference), cells(target)
        tone = fit_tone(first, second)
        drift = parameters.match_tone and tone.accepted
        if drift:
            reference = np.asarray(cv2.LUT(reference, tone.table()), dtype=np.uint8)
            first = tone.applied(first)
        evidence["tone"] = {
            "curves": np.round(tone.curves, 4).tolist(),
            "drift": round(tone.drift, 2),
            "explained_before": round(tone.explained_before, 3),
            "explained_after": round(tone.explained_after, 3),
            "applied": drift,
            "whole_image": tone.whole_image,
        }
        apart = disagreement(first, second)
        agrees = agreement(apart)
        evidence["agreement"] = round(agrees, 4)
        evidence["disagreement"] = round(float(np.median(apart)), 2)
        verdict = MaskStatus.GLOBAL if tone.whole_image or agrees < parameters.min_agreement else None
        suspect: Mask | None = None
        if mismatch > _SAME_EDGES or verdict is not None:
            alike = measure_likeness(reference, target)
            evidence["structure"] = round(alike.structure, 3)
            evidence["detail"] = {
                "share": round(alike.detailed, 3),
                "typical": round(alike.typical_detail, 3),
                "best": round(alike.best_detail, 3),
            }
            verdict = self._verdict(alike, agrees) or verdict
            if alike.typical_detail < parameters.min_detail and agrees < _MOST_AGREES:
                other = measure_likeness(np.asarray(cv2.flip(reference, 1), np.uint8), target)
                evidence["mirrored"] = other.typical_detail > parameters.redrawn_typical_detail
                verdict = MaskStatus.MISALIGNED if evidence["mirrored"] else verdict
            suspect = alike.suspect
        if parameters.match_blur:
            widths = match_sharpness(reference, target, suspect)
            reference, target = soften(reference, widths[0]), soften(target, widths[1])
            evidence["softened"] = {"reference": widths[0], "target": widths[1]}
        if outside is not None:
            reference = np.asarray(cv2.copyTo(target, outside.view(np.uint8), reference), np.uint8)
        quiet_cells = unedited(apart, target.shape[:2], suspect)
        fine = measure_heat(reference, target, parameters.least_noise, quiet_cells)
        coarse = measure_coarse_heat(reference, target, parameters.least_noise, quiet_cells)
        evidence["noise"] = {"fine": fine.evidence(), "coarse": coarse.evidence()}
        low, high = parameters.low_threshold * UNIT, parameters.high_threshold * UNIT
        reach = round(parameters.reach_share * float(np.sqrt(fine.levels.size)))
        changed, levels = threshold_at_two_scales(fine.levels, coarse.levels, low, high, reach)
        return RobustDifference(levels, changed, verdict, evidence, compared=(reference, target))

    def _verdict(self, alike: Likeness, agrees: float) -> MaskStatus | None:
        """What the likeness tells: no pair, redrawn, or nothing."""
        parameters = self.parameters
        elsewhere = alike.structure < parameters.min_structure and alike.best_detail < parameters.min_detail
        # An object replaced before a plain ground leaves no edge where it was either, but most of the image agrees.
        if elsewhere and agrees < _MOST_AGREES:
            return MaskStatus.MISALIGNED
        same = alike.structure >= _SAME_STRUCTURE and alike.detailed >= _MOSTLY
        is_typical_lost = alike.typical_detail < parameters.redrawn_typical_detail
        is_best_lost = alike.best_detail < parameters.redrawn_best_detail
        return MaskStatus.GLOBAL if same and is_typical_lost and is_best_lost else None

    def grow(self, changed: Mask) -> Mask:
        """Closing over a share of the image's size."""
        radius = round(self.parameters.closing_share * float(np.sqrt(changed.size)))
        return close(changed, 2 * radius + 1)

    def filter(self, grown: Mask, difference: Difference) -> Mask:
        """Components by contrast times area, size and what moved edges explain; small enclosed holes are filled."""
        parameters = self.parameters
        components = choose_components(
            grown,
            difference.heat,
            parameters.min_component_share,
            parameters.min_component_strength,
            parameters.min_component_contrast,
        )
        if isinstance(difference, RobustDifference):
            components = drop_displaced(
                components, *difference.compared, parameters.displaced_share, parameters.min_excess
            )
        difference.evidence["components"] = components.evidence()
        return fill_holes(components.mask, difference.heat, parameters.hole_share)

    def combine(self, masks: Sequence[Mask]) -> Mask:
        """Union, or intersection where the parameters say so."""
        if self.parameters.several_references == "intersection":
            return intersect(masks)
        return reduce(np.logical_or, masks)

    def combine_heat(self, heats: Sequence[Pixels]) -> Pixels:
        """The largest, or the least with intersection."""
        if self.parameters.several_references == "intersection":
            return least(heats)
        return reduce(np.maximum, heats)

    def judge(self, differences: Sequence[Difference], filtered: Mask) -> Judgement:
        """By what the comparison as a whole said, then by the edited fraction."""
        parameters = self.parameters
        fraction = edited_fraction(filtered)
        verdicts = [one.verdict for one in differences]
        if all(verdict is MaskStatus.MISALIGNED for verdict in verdicts):
            status, mask = MaskStatus.MISALIGNED, np.zeros_like(filtered)
        elif all(verdict is not None for verdict in verdicts) or fraction >= parameters.global_fraction:
            status, mask = MaskStatus.GLOBAL, np.ones_like(filtered)
        elif fraction == 0.0:
            status, mask = MaskStatus.UNCHANGED, filtered
        elif fraction < parameters.min_edited_fraction:
            status, mask = MaskStatus.TOO_SMALL, filtered
        else:
            status, mask = MaskStatus.OK, filtered
        confidence = min(self._confidence(status, one, filtered) for one in differences)
        evidence = {
            "references": [dict(one.evidence) for one in differences],
            "edited_fraction": round(fraction, 6),
            "thresholds": {"low": parameters.low_threshold, "high": parameters.high_threshold},
        }
        return Judgement(mask, status, confidence, evidence)

    def _confidence(self, status: MaskStatus, difference: Difference, filtered: Mask) -> float:
        parameters, evidence = self.parameters, difference.evidence
        agrees, noise = evidence["agreement"], evidence["noise"]["fine"]["quiet"][0]
        if status is MaskStatus.UNCHANGED:
            return unchanged_confidence(difference.heat, parameters.high_threshold, agrees, noise)
        if difference.verdict is not None:
            # A grading agrees where nothing was to be graded.
            explained = evidence["tone"]["whole_image"]
            agrees = 0.0 if explained else agrees
            return whole_confidence(agrees, parameters.min_agreement, evidence["disagreement"])
        return edit_confidence(difference.heat, filtered, agrees, noise)

    def pool(self, mask: Mask) -> Mask:
        """Max-pool."""
        return max_pool(mask)
