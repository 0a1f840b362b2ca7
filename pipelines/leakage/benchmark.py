"""The images of a benchmark, as the hashes that the step `perceptual_hash` left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.deduplicate.hamming import Points
from pipelines.deduplicate.hash_step import IMAGE_HASHES
from pipelines.deduplicate.survey import image_points, images_of
from pipelines.parquet_files import find_files, locate
from schemas.atomic import fingerprint
from schemas.errors import InputError, SchemaError


@dataclass(frozen=True)
class Benchmark:
    """What training rows are held against.

    Args:
        keys: of the benchmark's rows, ascending.
        points: its images with a perceptual hash; owners are places in `keys`.
        by_content: content hash of every image -> place in `keys`, the first that has it.
        mark: hash of all of it, whatever files it came in.
    """

    keys: tuple[str, ...]
    points: Points
    by_content: dict[bytes, int]
    mark: str


def read_benchmark(paths: Sequence[str]) -> Benchmark:
    """The benchmark in Parquet files with `key` and `image_hashes`.

    Args:
        paths: files, folders or globs.

    Raises:
        InputError: there is no such file, one cannot be read, or there is no image in them.
        SchemaError: a file lacks a column.
    """
    table = pa.concat_tables([_read(file.path) for file in find_files(paths)]).sort_by("key")
    images = images_of(table[IMAGE_HASHES.name])
    if not images.content:
        raise InputError("leakage.benchmark", list(paths), "holds no image", "Hash the benchmark's images first.")
    keys = table["key"].to_pylist()
    by_content: dict[bytes, int] = {}
    marks = []
    for row, key in enumerate(keys):
        contents = images.contents_of_each(row)
        marks.append([key, *(content.hex() for content in contents)])
        for content in contents:
            by_content.setdefault(content, row)
    return Benchmark(tuple(keys), image_points(images), by_content, fingerprint([marks, images.perceptual.tolist()]))


def _read(path: str) -> pa.Table:
    filesystem, inner = locate(path)
    try:
        names = pq.read_schema(inner, filesystem=filesystem).names
        missing = [name for name in ("key", IMAGE_HASHES.name) if name not in names]
        if missing:
            raise SchemaError(
                f"leakage.benchmark: {path}",
                names,
                f"the column '{missing[0]}' is missing",
                "Run the step perceptual_hash over the benchmark, and name the records of that run.",
            )
        table = pq.read_table(inner, columns=["key", IMAGE_HASHES.name], filesystem=filesystem)
        return table.select(["key", IMAGE_HASHES.name]).cast(pa.schema([pa.field("key", pa.string()), IMAGE_HASHES]))
    except (pa.ArrowException, OSError) as error:
        raise InputError("leakage.benchmark", path, f"cannot be read ({error})", "Check the file.") from error
