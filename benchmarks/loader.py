"""How fast training samples are loaded, beside plain `webdataset`, MosaicML Streaming and bare decoding, in one run.

    python benchmarks/loader.py
    python benchmarks/loader.py --cases "1024 jpeg" --samples 64 --repeats 1

Each way gives micro-batches of the same samples: reference and target decoded and brought to one size, the mask pooled
onto the latent grid, the weight of every cell, all stacked as tensors. The peers do it the obvious way
(`benchmarks/loader_peers.py`). The floor decodes the same bytes of reference, target and mask with the fastest decoder
at hand and does nothing else. A case is a size that samples are trained at and a format; "stored 1.5x" are stored half
as large again on each side, so that every way must reduce them. With "and processor" the loader also makes what the
frozen towers take, with the image processors of Qwen2.5-VL and SigLIP2-512 as released.

The ways take turns, and each one's best turn counts. Processor time of all its processes stands beside the clock, since
the clock also tells of what else the machine does. Streaming may want other versions of packages: it runs in a virtual
environment of its own, which is made unless `--streaming-python` names one.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from loader_peers import Turn, timed, webdataset_batches
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip import SiglipImageProcessorPil

from pipelines.pack import PackConfig, pack
from pipelines.synthesis.photographs import load_photographs
from schemas.config import parse_config
from schemas.images import encode_mask
from schemas.keys import pair_key
from schemas.records import EDIT_SAMPLE
from trainer.config import TrainConfig
from trainer.data.loader import micro_batches
from trainer.data.members import EncodedSample, read_sample
from trainer.data.shards import open_shards
from trainer.data.training_data import open_data
from unified_model.processor import EditProcessor
from unified_model.tiny_tokenizer import build_tiny_tokenizer
from unified_model.vlm_processor import ImageVLProcessor

ASPECT = {512: (624, 416), 1024: (1248, 832)}
"""The 3:2 bucket, width and height, by resolution."""
BATCH = 8


@dataclass(frozen=True)
class Case:
    """One kind of samples.

    Args:
        resolution: that they are trained at.
        form: of the stored images, "JPEG" or "PNG".
        scale: by how much they are stored larger than they are trained.
    """

    resolution: int
    form: str
    scale: float

    @property
    def name(self) -> str:
        stored = "" if self.scale == 1.0 else f", stored {self.scale:g}x"
        return f"{self.resolution} {self.form.lower()}{stored}"


CASES = [
    *(Case(resolution, form, 1.0) for resolution in (512, 1024) for form in ("JPEG", "PNG")),
    Case(512, "JPEG", 1.5),
    Case(1024, "JPEG", 1.5),
    Case(1024, "JPEG", 2.0),
]


@dataclass(frozen=True)
class Rows:
    """Samples of photographs in which an ellipse is painted, made when they are packed."""

    case: Case
    first: int
    count: int

    def __call__(self) -> pa.Table:
        rows = [self._row(number) for number in range(self.first, self.first + self.count)]
        return pa.Table.from_pylist(rows, schema=pa.schema([one.with_nullable(True) for one in EDIT_SAMPLE.fields]))

    def _row(self, number: int) -> dict[str, Any]:
        generator = np.random.default_rng(number)
        width, height = (round(side * self.case.scale) for side in ASPECT[self.case.resolution])
        photographs = load_photographs()
        source = Image.fromarray(photographs[number % len(photographs)].pixels)
        factor = max(width / source.width, height / source.height)
        grown = source.resize((round(source.width * factor) + 1, round(source.height * factor) + 1), Image.BICUBIC)
        left = int(generator.integers(0, grown.width - width + 1))
        top = int(generator.integers(0, grown.height - height + 1))
        # Enlarged photographs are smoother than real ones; a camera's noise brings their size in bytes to a usual one.
        pixels = np.asarray(grown.crop((left, top, left + width, top + height))).astype(np.float32)
        before = (pixels + generator.normal(0, 3, (height, width, 1))).clip(0, 255).astype(np.uint8)
        drawn = np.zeros((height, width), np.uint8)
        centre = (int(generator.integers(width)), int(generator.integers(height)))
        axes = (int(generator.integers(width // 10, width // 4)), int(generator.integers(height // 10, height // 4)))
        cv2.ellipse(drawn, centre, axes, 0, 0, 360, 1, -1)
        mask = drawn > 0
        after = before.copy()
        after[mask] = 255 - after[mask]
        images = [_encoded(before, self.case.form), _encoded(after, self.case.form)]
        instruction = f"invert the ellipse number {number}"
        return {
            "key": pair_key(images[:1], images[1], instruction),
            "references": [{"bytes": images[0], "path": "before"}],
            "target": {"bytes": images[1], "path": "after"},
            "instruction": instruction,
            "mask": {"bytes": encode_mask(mask), "path": None},
            "mask_status": "ok",
            "edited_fraction": float(mask.mean()),
            "width": width,
            "height": height,
            "mask_recipe": "drawn",
            "mask_recipe_version": 1,
            "mask_parameters": "{}",
        }


def _encoded(pixels: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **({"quality": 92} if form == "JPEG" else {}))
    return stream.getvalue()


def real_processor() -> EditProcessor:
    """The image processors of the released towers; the tokenizer is a small one, which costs nothing either way."""
    vlm = ImageVLProcessor(Qwen2VLImageProcessorPil(), build_tiny_tokenizer())
    return EditProcessor(vlm, SiglipImageProcessorPil(size={"height": 512, "width": 512}))


def ours(packed: Path, case: Case, workers: int, batches: int, processor: EditProcessor | None) -> Turn:
    """The project's loader, references as pixels too."""
    values = {
        "model": "none",
        "output": "none",
        "data": {"shards": [str(packed)], "resolution": case.resolution, "workers": workers},
        "steps": 1_000_000,
        "batch_size": BATCH,
    }
    config = parse_config(TrainConfig, values, "benchmark")
    data = open_data(config, 1)
    stream = micro_batches(data, config, processor, 0, 0, 1, with_references=True)
    return timed(stream, batches, BATCH)


def floor(samples: list[EncodedSample], workers: int, batches: int) -> Turn:
    """Decoding in as many processes, and nothing else."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(workers + 1), context.Queue()
    each = max(1, batches * BATCH // workers)
    running = [context.Process(target=_decode, args=(samples, each, barrier, results)) for _ in range(workers)]
    for process in running:
        process.start()
    barrier.wait()
    began = time.perf_counter()
    cpu = sum(results.get() for _ in running)
    seconds = time.perf_counter() - began
    for process in running:
        process.join()
    return Turn(each * workers / seconds, 1e3 * cpu / (each * workers))


def _decode(samples: list[EncodedSample], count: int, barrier: Any, results: Any) -> None:
    cv2.setNumThreads(0)
    decoders = [_fastest([one.target for one in samples[:4]]), _fastest([one.mask or b"" for one in samples[:4]])]
    barrier.wait()
    began = time.process_time()
    for number in range(count):
        sample = samples[number % len(samples)]
        for data in (*sample.references, sample.target):
            decoders[0](data)
        decoders[1](sample.mask or b"")
    results.put(time.process_time() - began)


def _pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def _opencv(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def _fastest(images: list[bytes]) -> Callable[[bytes], np.ndarray]:
    def seconds(decoder: Callable[[bytes], np.ndarray]) -> float:
        turns = []
        for _ in range(5):
            began = time.process_time()
            for data in images:
                decoder(data)
            turns.append(time.process_time() - began)
        return min(turns)

    return min((_pillow, _opencv), key=seconds)


def streaming(python: Path, folder: Path, case: Case, workers: int, batches: int) -> Turn:
    """MosaicML Streaming in an environment of its own."""
    peers = Path(__file__).with_name("loader_peers.py")
    values = {"folder": str(folder), "size": ASPECT[case.resolution], "workers": workers, "batches": batches}
    command = [str(python), str(peers), json.dumps({**values, "batch": BATCH})]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Turn(*json.loads(done.stdout.splitlines()[-1]))


def streaming_python(given: Path | None, folder: Path) -> Path:
    """The interpreter that has Streaming; makes its environment where none is given."""
    if given is not None:
        return given
    python = folder / "streaming" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "streaming")], check=True)
    packages = ["mosaicml-streaming", "opencv-python-headless"]
    subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    return python


def ways(
    packed: Path, mds: Path, case: Case, options: argparse.Namespace, python: Path
) -> Iterator[tuple[str, Callable[[], Turn]]]:
    """Every way under its name."""
    index = open_shards([packed], {"ok"}, [])
    samples = [read_sample(index.shard(number), *index.span(number)) for number in range(min(len(index), 64))]
    workers, size = options.workers, ASPECT[case.resolution]
    batches = max(2 * workers, options.samples // BATCH)
    tars = sorted(str(path) for path in (packed / "webdataset").glob("*.tar"))
    yield "floor: decode only", lambda: floor(samples, workers, batches)
    yield "editmill", lambda: ours(packed, case, workers, batches, None)
    yield "webdataset", lambda: timed(webdataset_batches(tars, size, workers, BATCH), batches, BATCH)
    yield "Streaming", lambda: streaming(python, mds, case, workers, batches)
    if options.processor:
        few = max(2 * workers, batches // 4)
        yield "editmill and processor", lambda: ours(packed, case, workers, few, real_processor())


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=384, help="samples loaded in a turn")
    parser.add_argument("--distinct", type=int, default=96, help="different samples among them")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way")
    parser.add_argument("--workers", type=int, default=2, help="loading processes")
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES], help="cases by name")
    parser.add_argument("--processor", action=argparse.BooleanOptionalAction, default=True, help="time it as well")
    parser.add_argument("--streaming-python", type=Path, help="interpreter of an environment that has Streaming")
    options = parser.parse_args()
    console = Console(width=100)
    console.print(f"{options.workers} workers, micro-batches of {BATCH}, best of {options.repeats} turns each")
    with TemporaryDirectory() as folder:
        python = streaming_python(options.streaming_python, Path(folder))
        for case in (case for case in CASES if case.name in options.cases):
            packed, mds = Path(folder) / "packed", Path(folder) / "mds"
            packed, mds = packed / case.name, mds / case.name
            rows = [Rows(case, first, 32) for first in range(0, options.distinct, 32)]
            pack(rows, PackConfig.model_validate({"formats": ("webdataset",), "samples_per_shard": 32}), packed)
            peers = str(Path(__file__).with_name("loader_peers.py"))
            subprocess.run([str(python), peers, "--write", str(packed), str(mds)], check=True, capture_output=True)
            turns: dict[str, list[Turn]] = {}
            for _ in range(options.repeats):
                for name, way in ways(packed, mds, case, options, python):
                    turns.setdefault(name, []).append(way())
            rates = {name: max(turn.samples_per_second for turn in of) for name, of in turns.items()}
            costs = {name: min(turn.cpu_ms for turn in of) for name, of in turns.items()}
            bare = next(iter(rates))
            table = Table(case.name, "samples/s", "of the floor", "CPU ms a sample", "of the floor")
            for name in rates:
                speed, cost = rates[name] / rates[bare], costs[bare] / costs[name]
                cells = (f"{rates[name]:,.1f}", f"{speed:.2f}", f"{costs[name]:.2f}", f"{cost:.2f}")
                table.add_row(name, *cells)
            console.print(table)


if __name__ == "__main__":
    main()
