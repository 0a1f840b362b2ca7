"""Damaged images and files, made from whole ones with a seed; and what reads them, to be run as a process of its own.

    python mutations.py images|files FOLDER SEED COUNT

prints one JSON object: how often each outcome was met, what was no outcome at all, the longest time, the most memory.
Before each case its number goes to FOLDER/at, so that a crash of a C library can be told.
"""

from __future__ import annotations

import io
import json
import resource
import shutil
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import source_layouts as layouts
from pack_samples import edit_row, image_row, loaders_of, table_of
from PIL import Image

from jobs.registry import make_source
from pipelines.masks.step import EditMasks, EditMasksConfig
from pipelines.pack import PackConfig, pack
from schemas.config import parse_config
from schemas.errors import EditmillError
from schemas.keys import pair_key
from schemas.records import EDIT_PAIR

FORMATS = Path(__file__).parents[2] / ".." / "shared" / "data" / "formats"
LARGEST_SEED = 180_000
Rng = np.random.Generator


def seeds() -> list[bytes]:
    """Whole images in every format that is read, small, and real files of odd kinds where they are there."""
    pixels = layouts.photograph(0)[:48, :64]
    found: list[bytes] = []
    for form, options in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "quality": 60}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("JPEG2000", {}),
        ("AVIF", {}),
        ("PPM", {}),
        ("QOI", {}),
    ):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, form, **options)
        found.append(stream.getvalue())
    if FORMATS.is_dir():
        real = (path for path in sorted(FORMATS.iterdir()) if path.suffix != ".jsonl")
        found += [path.read_bytes() for path in real if path.stat().st_size <= LARGEST_SEED]
    return found


def flip_bits(rng: Rng, data: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(data)
    # Half of the time near the beginning, where headers are.
    end = len(data) if rng.random() < 0.5 else min(len(data), 128)
    for position in rng.integers(0, end, int(2 ** rng.integers(0, 7))):
        changed[position] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def truncate(rng: Rng, data: bytes, _: list[bytes]) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def splice(rng: Rng, data: bytes, others: list[bytes]) -> bytes:
    other = others[int(rng.integers(0, len(others)))]
    cut = int(rng.integers(2, 64))
    return other[:cut] + data[cut if rng.random() < 0.5 else 0 :]


def zero(rng: Rng, data: bytes, _: list[bytes]) -> bytes:
    if rng.random() < 0.1:
        return bytes(int(rng.integers(0, 100)))
    start = int(rng.integers(0, len(data)))
    length = int(min(2 ** rng.integers(0, 14), len(data) - start))
    return data[:start] + bytes(length) + data[start + length :]


def repeat(rng: Rng, data: bytes, _: list[bytes]) -> bytes:
    start, stop = sorted(int(value) for value in rng.integers(0, len(data), 2))
    return data[:stop] + data[start:stop] + data[stop:]


def claim(rng: Rng, data: bytes, _: list[bytes]) -> bytes:
    """Another width and height in the header, huge for the most part."""
    side = int(rng.choice([0, 1, 7, 65, 1000, 7999, 30_000, 65_500]))
    changed = bytearray(data)
    if data[:4] == b"\x89PNG":
        changed[16:24] = struct.pack(">II", int(rng.choice([side, 2**31 - 1])), side)
    elif data[:2] == b"\xff\xd8":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            if (at := data.find(marker)) >= 0:
                changed[at + 5 : at + 9] = struct.pack(">HH", side, side)
    elif data[:3] == b"GIF":
        changed[6:10] = struct.pack("<HH", side, side)
    elif data[:2] == b"BM":
        changed[18:26] = struct.pack("<ii", side, int(rng.choice([side, -side, 2**30])))
    elif data[:2] == b"P6":
        return b"P6\n%d %d\n255\n" % (side, side) + data[12:]
    elif data[:4] == b"qoif":
        changed[4:12] = struct.pack(">II", side, side)
    elif data[:4] in (b"II*\0", b"MM\0*"):
        order = "<" if data[:2] == b"II" else ">"
        at = struct.unpack_from(order + "I", data, 4)[0]
        count = struct.unpack_from(order + "H", data, at)[0]
        for tag in range(min(count, 2)):
            struct.pack_into(order + "I", changed, at + 2 + 12 * tag + 8, side)
    else:
        changed[20:32] = rng.bytes(12)
    return bytes(changed)


MUTATIONS: tuple[Callable[[Rng, bytes, list[bytes]], bytes], ...] = (flip_bits, truncate, splice, zero, repeat, claim)


def images(folder: Path, seed: int, count: int) -> dict[str, Any]:
    """Damaged images as one of a pair, or as both, through the step `masks`; wrong suffixes all along."""
    rng, whole = np.random.default_rng(seed), seeds()
    step = EditMasks(parse_config(EditMasksConfig, {"on_size_mismatch": "resize_reference"}, "test"))
    step.setup()
    seen = Seen(folder)
    for number in range(count):
        data = whole[int(rng.integers(0, len(whole)))]
        mutate = MUTATIONS[int(rng.integers(0, len(MUTATIONS)))]
        damaged, other = mutate(rng, data, whole), data
        if rng.random() < 0.3:
            other = damaged
        pair = [damaged, other] if rng.random() < 0.5 else [other, damaged]
        images = [{"bytes": one, "path": f"x.{rng.choice(['jpg', 'png', 'exe'])}"} for one in pair]
        row = {"key": pair_key(pair[:1], pair[1], "x"), "references": images[:1], "target": images[1]}
        table = pa.Table.from_pylist([{**row, "instruction": "x"}], schema=EDIT_PAIR.arrow)

        def work(table: pa.Table = table) -> list[str]:
            result = step(table)
            return result.rejected["reason"].to_pylist() or ["kept"]

        seen.meet(number, mutate.__name__, work)
    return seen.told()


def files(folder: Path, seed: int, count: int) -> dict[str, Any]:
    """Damaged Parquet, tar, JSON and JSONL files through the sources that read them."""
    rng, places = np.random.default_rng(seed), data_sets(folder)
    whole = {path: path.read_bytes() for _, paths in places for path in paths}
    seen = Seen(folder)
    for number in range(count):
        source, paths = places[int(rng.integers(0, len(places)))]
        path = paths[int(rng.integers(0, len(paths)))]
        mutate = MUTATIONS[int(rng.integers(0, len(MUTATIONS) - 1))]
        data = whole[path]
        if rng.random() < 0.5 and path.suffix == ".parquet":
            # In the footer, where a Parquet file has its structure.
            cut = len(data) - int.from_bytes(data[-8:-4], "little") - 8
            damaged = data[:cut] + mutate(rng, data[cut:], [data])
        else:
            damaged = mutate(rng, data, [data])
        path.write_bytes(damaged)

        def work(source: dict[str, dict[str, Any]] = source) -> list[str]:
            [(name, values)] = source.items()
            reader = make_source(name, values, "test")
            results = [reader.read(partition) for partition in reader.partitions()]
            reasons = [reason for result in results for reason in result.rejected["reason"].to_pylist()]
            return reasons + ["kept"] * sum(result.kept.num_rows for result in results)

        seen.meet(number, f"{mutate.__name__} of {path.name}", work)
        path.write_bytes(data)
    return seen.told()


def data_sets(folder: Path) -> list[tuple[dict[str, dict[str, Any]], list[Path]]]:
    """Small data sets: the source that reads each, and its files that may be damaged."""
    found: list[tuple[dict[str, dict[str, Any]], list[Path]]] = []
    for write in layouts.LAYOUTS:
        place = folder / write.__name__
        shutil.rmtree(place, ignore_errors=True)
        layout = write(place)
        paths = [path for path in sorted(place.rglob("*")) if path.is_file() and path.suffix != ".png"]
        found.append((layout.source, [path for path in paths if "dev" not in path.name]))
    for form in ("webdataset", "parquet"):
        place = folder / f"packed-{form}"
        shutil.rmtree(place, ignore_errors=True)
        pack(loaders_of(6, 3), PackConfig(samples_per_shard=3, formats=(form,)), place)
        paths = [path for path in sorted(place.rglob("*")) if path.is_file()]
        found.append(({"packed_shards": {"path": str(place)}}, paths))
    place = folder / "plain"
    place.mkdir(exist_ok=True)
    pq.write_table(table_of([edit_row(number) for number in range(4)]), place / "pairs.parquet", row_group_size=2)
    pq.write_table(table_of([image_row(number) for number in range(4)], "ImageRecord"), place / "images.parquet")
    (place / "a.png").write_bytes(layouts.before(0)["bytes"])
    lines = [{"reference": "a.png", "target": "a.png", "instruction": f"x{number}"} for number in range(9)]
    (place / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, key, file in (
        ("edit_pairs_parquet", "paths", "pairs.parquet"),
        ("image_records_parquet", "paths", "images.parquet"),
        ("edit_pairs_jsonl", "path", "pairs.jsonl"),
    ):
        value = [str(place / file)] if key == "paths" else str(place / file)
        found.append(({name: {key: value}}, [place / file]))
    return found


class Seen:
    """What was met."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        self.longest = 0.0

    def meet(self, number: int, what: str, work: Callable[[], list[str]]) -> None:
        """Do one case; only an outcome or one of our own errors is right."""
        (self._folder / "at").write_text(f"{number}: {what}")
        start = time.monotonic()
        try:
            self.outcomes.update(work())
        except EditmillError as error:
            assert str(error)
            self.outcomes[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001
            self.faults.append(f"{number}: {what}: {type(error).__name__}: {error}"[:300])
        self.longest = max(self.longest, time.monotonic() - start)

    def told(self) -> dict[str, Any]:
        """As JSON-able values."""
        outcomes = dict(self.outcomes.most_common())
        return {"outcomes": outcomes, "faults": self.faults, "longest_s": self.longest, "peak_mib": peak_mib()}


def peak_mib() -> int:
    """The largest resident memory this process has had, in MiB.

    Not `ru_maxrss` where it can be helped: Linux hands the parent's on to the child, so that a large test process
    would be counted in."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) // 1024


if __name__ == "__main__":
    kind, place, first_seed, cases = sys.argv[1:]
    told = {"images": images, "files": files}[kind](Path(place), int(first_seed), int(cases))
    sys.stdout.write(json.dumps(told))
