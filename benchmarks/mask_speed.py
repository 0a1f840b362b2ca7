"""How long each mask recipe takes, on one core, as medians over many pairs and as ratios within this one run.

    python benchmarks/mask_speed.py
    python benchmarks/mask_speed.py --repeats 15

Beside the recipes stand two yardsticks: the four steps in plain OpenCV, and the released UniWorld-V1 function's way of
filtering components, one comparison of the full image for each component (written anew here).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.masks.difference import channel_difference
from pipelines.masks.morphology import close
from pipelines.masks.registry import make_recipe
from pipelines.masks.step import EditMasks, EditMasksConfig
from pipelines.synthesis.degradations import DEGRADATIONS
from pipelines.synthesis.edits import make_edit
from pipelines.synthesis.photographs import encode_jpeg, load_photographs
from schemas.images import decode_image
from schemas.masks import max_pool

Pixels = npt.NDArray[np.uint8]
Pair = tuple[Pixels, Pixels]
RECIPES = ("seed", "uniworld", "robust")


def pairs(side: int, degradations: Sequence[str]) -> list[Pair]:
    """Edited photographs of `side` x `side` pixels under each degradation."""
    made = []
    for photograph in load_photographs():
        edit = make_edit("recolour", photograph, 0)
        square = [
            np.asarray(cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
            for one in (edit.reference, edit.target)
        ]
        for name in degradations:
            made.append(DEGRADATIONS[name](square[0], square[1], np.random.default_rng(0)))
    return made


def noisy_pair(side: int) -> Pair:
    """A photograph and itself under grain so strong that a plain threshold leaves thousands of components."""
    photograph = load_photographs()[0].pixels
    reference = np.asarray(cv2.resize(photograph, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 40, reference.shape).astype(np.float32), (0, 0), 1.0)
    return reference, np.asarray(np.clip(np.rint(reference + grain), 0, 255), np.uint8)


def plain_four_steps(reference: Pixels, target: Pixels) -> npt.NDArray[np.bool_]:
    """Difference and threshold, dilation, components by area, max-pool: nothing but OpenCV and a look-up."""
    grey = cv2.cvtColor(cv2.absdiff(reference, target), cv2.COLOR_RGB2GRAY)
    _, changed = cv2.threshold(grey, 17, 1, cv2.THRESH_BINARY)
    grown = cv2.dilate(changed, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(grown, connectivity=8, ltype=cv2.CV_32S)
    stays = statistics[:, cv2.CC_STAT_AREA] >= 0.001 * grown.size
    stays[0] = False
    return max_pool(np.take(stays, labels))


def comparison_per_component(reference: Pixels, target: Pixels) -> npt.NDArray[np.bool_]:
    """The `uniworld` recipe as the release filters components: one comparison of the full image for each."""
    changed = close(channel_difference(reference, target, "luma") >= 18, 5)
    count, labels = cv2.connectedComponents(changed.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    least = 0.3 * np.count_nonzero(changed)
    kept = np.zeros_like(changed)
    for label in range(1, count):
        component = labels == label
        if component.sum() >= least:
            kept |= component
    return close(max_pool(kept), 5)


def median_ms(call: Callable[[Pixels, Pixels], object], todo: Sequence[Pair], repeats: int) -> float:
    """Median over pairs of the least of `repeats` runs, in milliseconds."""
    call(*todo[0])
    taken = []
    for pair in todo:
        runs = []
        for _ in range(repeats):
            started = time.perf_counter()
            call(*pair)
            runs.append(time.perf_counter() - started)
        taken.append(min(runs))
    return 1e3 * float(np.median(taken))


def through_the_step(repeats: int, recipe: str) -> tuple[float, float]:
    """(decode both images, the whole step from bytes to the encoded mask), in milliseconds for 512 x 512 JPEG pairs."""
    encoded = [(encode_jpeg(r, 90), encode_jpeg(t, 90)) for r, t in pairs(512, ["none"])]
    step = EditMasks(EditMasksConfig(recipe=recipe, keep_statuses=tuple(_every_status())))
    step.setup()
    decode, whole = [], []
    for reference, target in encoded:
        row = {
            "key": "0" * 32,
            "references": [{"bytes": reference, "path": "r.jpg"}],
            "target": {"bytes": target, "path": "t.jpg"},
        }
        runs = []
        for _ in range(repeats):
            started = time.perf_counter()
            decode_image(reference)
            decode_image(target)
            between = time.perf_counter()
            step.process_row(row)
            runs.append((between - started, time.perf_counter() - between))
        decode.append(min(run[0] for run in runs))
        whole.append(min(run[1] for run in runs))
    return 1e3 * float(np.median(decode)), 1e3 * float(np.median(whole))


def _every_status() -> list[str]:
    return ["ok", "unchanged", "global", "too_small", "misaligned"]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each pair, of which the fastest counts")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    recipes = {name: make_recipe(name, {}) for name in RECIPES}
    ways: dict[str, Callable[[Pixels, Pixels], object]] = {
        "plain OpenCV": plain_four_steps,
        "comparison per component": comparison_per_component,
        **{name: lambda r, t, recipe=recipe: recipe.build([r], t) for name, recipe in recipes.items()},
    }
    for title, todo in (
        ("512 x 512 pairs", pairs(512, ["none", "jpeg75", "shift0.4", "several"])),
        ("one noisy 1024 x 1024 pair", [noisy_pair(1024)]),
    ):
        times = {name: median_ms(way, todo, options.repeats) for name, way in ways.items()}
        print(f"\n{title} ({len(todo)}), median")
        for name, taken in times.items():
            print(f"  {name:<26} {taken:9.2f} ms  {taken / times['plain OpenCV']:8.2f} x plain OpenCV")
        print(f"  the release's way / uniworld: {times['comparison per component'] / times['uniworld']:.1f}")
    print("\nrobust by size (under 'several'), median")
    for side in (256, 512, 1024, 2048):
        taken = median_ms(ways["robust"], pairs(side, ["several"])[:4], max(1, options.repeats // 2))
        print(f"  {side:>4} x {side:<4} {taken:9.2f} ms  {taken / side**2 * 1e6:7.2f} ms a megapixel")
    print("\nthe step on 512 x 512 JPEG pairs, median")
    for name in RECIPES:
        decode, whole = through_the_step(options.repeats, name)
        print(f"  {name:<10} decode {decode:6.2f} ms, bytes to encoded mask {whole:6.2f} ms: {whole / decode:.2f} x")


if __name__ == "__main__":
    main()
