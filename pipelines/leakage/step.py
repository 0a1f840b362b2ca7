"""The step `leakage`: rows that show an image of a benchmark are not trained on."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from pipelines.deduplicate.hamming import MAX_RADIUS, nearest_owner
from pipelines.deduplicate.hash_step import IMAGE_HASHES
from pipelines.deduplicate.survey import image_points, images_of
from pipelines.leakage.benchmark import Benchmark, read_benchmark
from pipelines.step import Step, StepResult
from schemas.config import Config
from schemas.outcomes import rejections


class LeakageConfig(Config):
    """Config of the step `leakage`."""

    benchmark: tuple[str, ...] = Field(min_length=1)
    """Parquet files, folders or globs with the benchmark's keys and `image_hashes`: the records of a run of the step
    `perceptual_hash` over it (runs/bench/records)."""
    radius: int = Field(default=4, ge=0, le=MAX_RADIUS)
    """Largest Hamming distance of two perceptual hashes (64 bits) that counts as near, inclusive."""

    @field_validator("benchmark", mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Leakage(Step[LeakageConfig]):
    """Rejects rows of which any image, reference or target, is near any image of the benchmark (`benchmark_leakage`).

    The sentence names the benchmark's row: the same file where there is one, else the near one with the smallest key.
    Flat images have no perceptual hash and leak only as the same file.
    """

    name: ClassVar[str] = "leakage"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = LeakageConfig
    needs: ClassVar[tuple[str, ...]] = ("image_hashes",)
    adds: ClassVar[pa.Schema] = pa.schema([])

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark. Read once, before the step travels: a worker needs no file of it.

        Raises:
            InputError, SchemaError: as `read_benchmark`.
        """
        return read_benchmark(self.config.benchmark)

    def identity(self) -> dict[str, Any]:
        """What the benchmark comes to, wherever its files lie."""
        return {
            "step": self.name,
            "version": self.version,
            "radius": self.config.radius,
            "benchmark": self.benchmark.mark,
        }

    def process(self, table: pa.Table) -> StepResult:
        """Part the rows."""
        images = images_of(table[IMAGE_HASHES.name])
        near = nearest_owner(image_points(images), self.benchmark.points, self.config.radius, table.num_rows)
        leaked: list[tuple[int, str, int, bool]] = []
        for row in range(table.num_rows):
            same = [self.benchmark.by_content.get(content) for content in images.contents_of_each(row)]
            found = min((place for place in same if place is not None), default=None)
            if found is not None:
                leaked.append((row, self.benchmark.keys[found], 0, True))
            elif near[row] >= 0:
                leaked.append((row, self.benchmark.keys[int(near[row]) // 256], int(near[row]) % 256, False))
        stays = np.ones(table.num_rows, np.bool_)
        stays[[row for row, *_ in leaked]] = False
        keys = table["key"].to_pylist()
        outcomes = rejections(
            self.name,
            self.version,
            [keys[row] for row, *_ in leaked],
            ["benchmark_leakage"] * len(leaked),
            [_sentence(key, distance, same_file) for _, key, distance, same_file in leaked],
            evidence=[
                {"benchmark_key": key, "distance": distance, "same_file": same_file}
                for _, key, distance, same_file in leaked
            ],
        )
        return StepResult(table.filter(pa.array(stays)) if leaked else table, outcomes)


def _sentence(key: str, distance: int, same_file: bool) -> str:
    if same_file:
        return f"an image is the same file as one of the benchmark's row {key}"
    return f"an image is within {distance} of 64 bits of one of the benchmark's row {key}"
