"""How long each mask recipe takes, on one core, as medians over many pairs and as ratios within this one run;
and what a pair costs from its bytes to a shard, beside the time that decoding its two images takes.

Processor time of the one thread that computes, so that what else the machine does counts little; the ways take turns on
each pair, so that it counts alike. Packing is told in time on the clock: it waits for the disk.

    python benchmarks/mask_speed.py
    python benchmarks/mask_speed.py --repeats 15

Beside the recipes stand two yardsticks: the four steps in plain OpenCV, and the released UniWorld-V1 function's way of
filtering components, one comparison of the full image for each component (written anew here).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.masks.difference import channel_difference
from pipelines.masks.morphology import close
from pipelines.masks.registry import make_recipe
from pipelines.masks.step import EditMasks, EditMasksConfig
from pipelines.pack.config import PackConfig
from pipelines.pack.job import pack
from pipelines.preview.picture import encode_png
from pipelines.synthesis.degradations import DEGRADATIONS
from pipelines.synthesis.edits import make_edit
from pipelines.synthesis.photographs import encode_jpeg, load_photographs
from schemas.config import parse_config
from schemas.images import decode_image
from schemas.masks import MaskStatus, max_pool
from schemas.records import EDIT_PAIR

Pixels = npt.NDArray[np.uint8]
Pair = tuple[Pixels, Pixels]
Way = Callable[[Pixels, Pixels], object]
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


def median_ms(ways: Mapping[str, Way], todo: Sequence[Pair], repeats: int) -> dict[str, float]:
    """For each way the median over pairs of the least of `repeats` runs, in milliseconds of processor time."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for pair in todo:
        runs: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(repeats + 1):
            for name, way in ways.items():
                started = time.thread_time()
                way(*pair)
                # The first run of a pair finds nothing warm.
                if turn:
                    runs[name].append(time.thread_time() - started)
        for name, times in runs.items():
            taken[name].append(min(times))
    return {name: 1e3 * float(np.median(times)) for name, times in taken.items()}


@dataclass(frozen=True)
class PairToShard:
    """Milliseconds a pair: decoding its two images; the step from bytes to the encoded mask; packing into shards."""

    decode: float
    masks: float
    pack: float

    @property
    def ratio(self) -> float:
        """Pair to shard, all in, to the time that decoding alone takes."""
        return (self.masks + self.pack) / self.decode


def pair_to_shard(recipe: str, side: int, form: str, repeats: int) -> PairToShard:
    """Pairs of `side` x `side` pixels as JPEG or PNG files, through the step `masks` into WebDataset shards on disk."""
    encode = {"jpg": lambda pixels: encode_jpeg(pixels, 90), "png": encode_png}[form]
    encoded = [(encode(reference), encode(target)) for reference, target in pairs(side, ["none", "jpeg75"])]
    table = pa.Table.from_pylist(
        [
            {
                "key": f"{number:032x}",
                "references": [{"bytes": reference, "path": f"r.{form}"}],
                "target": {"bytes": target, "path": f"t.{form}"},
                "instruction": "change it",
            }
            for number, (reference, target) in enumerate(encoded)
        ],
        EDIT_PAIR.arrow,
    )
    step = EditMasks(EditMasksConfig(recipe=recipe, keep_statuses=tuple(MaskStatus)))
    step.setup()
    config = parse_config(PackConfig, {"record": "edits", "formats": ["webdataset"]}, "pack")
    decode, masks, packed = [], [], []
    for _ in range(repeats):
        started = time.thread_time()
        for images in encoded:
            for data in images:
                decode_image(data)
        decoded = time.thread_time()
        samples = step(table).kept
        masked = time.thread_time()
        with TemporaryDirectory() as folder:
            begun = time.perf_counter()
            pack([partial(_same, samples)], config, Path(folder) / "shards")
            packed.append(time.perf_counter() - begun)
        decode.append(decoded - started)
        masks.append(masked - decoded)
    return PairToShard(*(1e3 * min(taken) / len(encoded) for taken in (decode, masks, packed)))


def _same(table: pa.Table) -> pa.Table:
    return table


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each pair, of which the fastest counts")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    recipes = {name: make_recipe(name, {}) for name in RECIPES}
    ways: dict[str, Way] = {
        "plain OpenCV": plain_four_steps,
        "comparison per component": comparison_per_component,
        **{name: lambda r, t, recipe=recipe: recipe.build([r], t) for name, recipe in recipes.items()},
    }
    for title, todo in (
        ("512 x 512 pairs", pairs(512, ["none", "jpeg75", "shift0.4", "several"])),
        ("one noisy 1024 x 1024 pair", [noisy_pair(1024)]),
    ):
        times = median_ms(ways, todo, options.repeats if len(todo) > 1 else 3)
        print(f"\n{title} ({len(todo)}), median")
        for name, taken in times.items():
            print(f"  {name:<26} {taken:9.2f} ms  {taken / times['plain OpenCV']:8.2f} x plain OpenCV")
        print(f"  the release's way / uniworld: {times['comparison per component'] / times['uniworld']:.1f}")
    print("\nrobust by size (under 'several'), median")
    for side in (256, 512, 1024, 2048):
        todo = pairs(side, ["several"])[:4]
        taken = median_ms({"robust": ways["robust"]}, todo, max(1, options.repeats // 2))["robust"]
        print(f"  {side:>4} x {side:<4} {taken:9.2f} ms  {taken / side**2 * 1e6:7.2f} ms a megapixel")
    print("\npair to shard, one core, means over pairs; the ratio is to decoding the two images")
    for side, form in ((512, "jpg"), (1024, "jpg"), (512, "png"), (1024, "png")):
        for name in RECIPES:
            one = pair_to_shard(name, side, form, max(1, options.repeats // 2))
            parts = f"decode {one.decode:6.2f} ms, masks {one.masks:6.2f} ms, pack {one.pack:5.2f} ms"
            print(f"  {side:>4} {form}  {name:<9} {parts}: {one.ratio:.2f} x")


if __name__ == "__main__":
    main()
