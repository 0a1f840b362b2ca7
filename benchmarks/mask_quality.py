"""How near each mask recipe comes to known regions, under what lies between real references and targets.

    python benchmarks/mask_quality.py                      # every photograph, development and held-out part
    python benchmarks/mask_quality.py --quick              # two photographs a part
    python benchmarks/mask_quality.py --photographs DIR    # one's own photographs, as a held-out part

Edits of known region (`pipelines.synthesis.edits`) are made on photographs, degraded
(`pipelines.synthesis.degradations`), and masked by each recipe with its defaults. Scored on the 8x max-pooled grid: IoU
with the region known before the degradation, and relative error of w = log2(x) + 1. A pair whose status says that there
is no mask (`unchanged`, `too_small`, `misaligned`) scores as an empty mask.

An edit that nobody can see has no region: black sky put in the place of black sky is drawn again with another seed,
until at least three quarters of the region differ from the original by a just noticeable difference (2.3 in CIE Lab,
Mahy et al. 1994), before any degradation and whatever a recipe makes of it. Where twenty draws find none, the most
visible one is taken.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.masks.recipe import MaskResult
from pipelines.masks.registry import make_recipe
from pipelines.masks.score import pooled_iou, weight_error
from pipelines.synthesis.degradations import DEGRADATIONS
from pipelines.synthesis.edits import KINDS, EditKind, KnownEdit, make_edit
from pipelines.synthesis.photographs import Photograph, load_photographs, scaled
from schemas.images import decode_image
from schemas.masks import MaskStatus

DEVELOPMENT = frozenset({"astronaut", "chelsea", "coffee", "china", "rocket"})
"""Photographs that recipes may be tuned on; the others, and other seeds, are held out."""
SEEDS = {"development": (0, 1), "held-out": (1000, 1001)}
LONGEST_SIDE = 512
RECIPES = ("seed", "uniworld", "robust")
WITH_MASK = (MaskStatus.OK, MaskStatus.GLOBAL)
NOTICEABLE = 2.3
VISIBLE_SHARE = 0.75
DRAWS = 20
ALWAYS = ("unchanged", "global")
"""Kinds that are about no region."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
REAL_PAIRS = Path(__file__).parents[2] / "shared" / "data" / "real_pairs"


@dataclass(frozen=True)
class Score:
    """One pair under one recipe."""

    part: str
    kind: str
    degradation: str
    photograph: str
    recipe: str
    iou: float
    weight_error: float
    status: str
    fraction: float


def edits(photographs: Sequence[Photograph], seeds: Sequence[int]) -> Iterator[tuple[Photograph, int, KnownEdit]]:
    """Every kind of edit on every photograph with every seed; objects to insert come from the next photograph."""
    for number, photograph in enumerate(photographs):
        donor = photographs[(number + 1) % len(photographs)]
        for seed in seeds:
            for kind in KINDS:
                yield photograph, seed, visible_edit(kind, photograph, seed, donor)


def visible_edit(kind: EditKind, photograph: Photograph, seed: int, donor: Photograph) -> KnownEdit:
    """The first edit, from `seed` on, that can be seen on most of its region; see the module."""
    best, most = None, -1.0
    for draw in range(DRAWS):
        edit = make_edit(kind, photograph, seed + 10_000 * draw, donor=donor)
        share = 1.0 if kind in ALWAYS else visible_share(edit)
        if share > most:
            best, most = edit, share
        if most >= VISIBLE_SHARE:
            break
    if best is None:
        raise ValueError("no edit was drawn")
    return best


def visible_share(edit: KnownEdit) -> float:
    """The share of the edit's region that differs noticeably, in 0..1."""
    before, after = (
        cv2.cvtColor(image.astype(np.float32) / np.float32(255.0), cv2.COLOR_RGB2LAB)
        for image in (edit.reference, edit.target)
    )
    return float(np.mean(np.linalg.norm(before - after, axis=-1)[edit.mask] >= NOTICEABLE))


def score_part(part: str, photographs: Sequence[Photograph], seeds: Sequence[int]) -> list[Score]:
    """Every edit under every degradation, masked by every recipe."""
    recipes = {name: make_recipe(name, {}) for name in RECIPES}
    scores = []
    for photograph, seed, edit in edits(photographs, seeds):
        for degradation, degrade in DEGRADATIONS.items():
            name = zlib.crc32(f"{photograph.name}/{edit.kind}/{degradation}".encode())
            reference, target = degrade(edit.reference, edit.target, np.random.default_rng([seed, name]))
            for recipe_name, recipe in recipes.items():
                result = recipe.build([reference], target)
                mask = offered(result)
                figures = (pooled_iou(mask, edit.mask), weight_error(mask, edit.mask))
                where = (part, edit.kind, degradation, photograph.name)
                scores.append(Score(*where, recipe_name, *figures, result.status.value, float(mask.mean())))
    return scores


def offered(result: MaskResult) -> npt.NDArray[np.bool_]:
    """The mask that a trainer would get: none where the status says that there is none."""
    return result.mask if result.status in WITH_MASK else np.zeros_like(result.mask)


def table(scores: Sequence[Score], recipe: str, figure: str) -> str:
    """Mean of `figure` for kind x degradation, with the means of rows and columns."""
    cells: dict[tuple[str, str], list[float]] = defaultdict(list)
    for score in scores:
        if score.recipe == recipe:
            value = getattr(score, figure)
            for row in (score.kind, "mean"):
                for column in (score.degradation, "mean"):
                    cells[row, column].append(value)
    columns = [*DEGRADATIONS, "mean"]
    lines = [f"{recipe + ' ' + figure:<22}" + "".join(f"{column:>9}" for column in columns)]
    for row in (*KINDS, "mean"):
        lines.append(f"{row:<22}" + "".join(f"{np.mean(cells[row, column]):9.3f}" for column in columns))
    return "\n".join(lines)


def summary(scores: Sequence[Score]) -> str:
    """One line a recipe and part: means, the worst cell, false masks of unchanged pairs, least cover of global ones."""
    titles = ("worst cell", "false masks", "global < 0.95")
    lines = [f"{'part':<12} {'recipe':<9} {'IoU':>6} {'w error':>8} {titles[0]:>26} {titles[1]:>12} {titles[2]:>14}"]
    for part in dict.fromkeys(score.part for score in scores):
        for recipe in RECIPES:
            mine = [score for score in scores if score.part == part and score.recipe == recipe]
            cells: dict[str, list[float]] = defaultdict(list)
            for score in mine:
                cells[f"{score.kind}/{score.degradation}"].append(score.iou)
            worst = min(cells, key=lambda cell: float(np.mean(cells[cell])))
            unchanged = [score.fraction > 0 for score in mine if score.kind == "unchanged"]
            partial = [score.fraction < 0.95 for score in mine if score.kind == "global"]
            lines.append(
                f"{part:<12} {recipe:<9} {np.mean([score.iou for score in mine]):6.3f} "
                f"{np.mean([score.weight_error for score in mine]):8.3f} "
                f"{worst + f' {np.mean(cells[worst]):.2f}':>26} "
                f"{f'{sum(unchanged)} of {len(unchanged)}':>12} {f'{sum(partial)} of {len(partial)}':>14}"
            )
    return "\n".join(lines)


def real_pairs(folder: Path) -> str:
    """Status and edited fraction of each real pair by each recipe; IoU and w error where a mask is known."""
    recipes = {name: make_recipe(name, {}) for name in RECIPES}
    lines = [f"{'pair':<18} {'edit type':<18}" + "".join(f"{name:>36}" for name in RECIPES)]
    for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        target = decode_image((folder / pair["tgt"]).read_bytes())
        reference = _resized(decode_image((folder / pair["src"]).read_bytes()), target.shape[:2])
        known = None
        if pair["mask"]:
            grey = cv2.cvtColor(decode_image((folder / pair["mask"]).read_bytes()), cv2.COLOR_RGB2GRAY)
            known = _resized(grey, target.shape[:2]) > 127
            if "complement" in pair["mask_meaning"]:
                known = ~known
        text = ""
        for recipe in recipes.values():
            result = recipe.build([reference], target)
            told = f"{result.status.value} {result.edited_fraction:.3f}"
            if known is not None:
                mask = offered(result)
                told += f" (IoU {pooled_iou(mask, known):.2f}, w {weight_error(mask, known):.2f})"
            text += f"{told:>36}"
        lines.append(f"{pair['id']:<18} {pair['edit_type']:<18}{text}")
    return "\n".join(lines)


def read_photographs(folder: Path) -> list[Photograph]:
    """Every image file of a folder as a photograph without named subjects."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    return [
        Photograph(file.stem, "a photograph", "", file.name, "", "", (), decode_image(file.read_bytes()))
        for file in files
    ]


def _resized(pixels: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if pixels.shape[:2] == shape[:2]:
        return pixels
    return np.array(Image.fromarray(pixels).resize((shape[1], shape[0]), Image.Resampling.LANCZOS))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two photographs and one seed a part")
    parser.add_argument("--photographs", type=Path, help="a folder of photographs, scored as a held-out part")
    parser.add_argument("--real-pairs", type=Path, default=REAL_PAIRS, help="a folder with pairs.jsonl")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    started = time.perf_counter()
    listed = [scaled(photograph, LONGEST_SIDE) for photograph in load_photographs()]
    parts = {
        "development": [one for one in listed if one.name in DEVELOPMENT],
        "held-out": [one for one in listed if one.name not in DEVELOPMENT],
    }
    if options.photographs:
        parts["held-out"] = [scaled(one, LONGEST_SIDE) for one in read_photographs(options.photographs)]
    scores: list[Score] = []
    for part, photographs in parts.items():
        few, seeds = (photographs[:2], SEEDS[part][:1]) if options.quick else (photographs, SEEDS[part])
        scores += score_part(part, few, seeds)
    for part in parts:
        mine = [score for score in scores if score.part == part]
        print(f"\n== {part} part ({len(mine) // len(RECIPES)} pairs) ==")
        for recipe in RECIPES:
            print(f"\n{table(mine, recipe, 'iou')}\n\n{table(mine, recipe, 'weight_error')}")
    print(f"\n{summary(scores)}")
    if (options.real_pairs / "pairs.jsonl").is_file():
        print(f"\n== real pairs ==\n{real_pairs(options.real_pairs)}")
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
