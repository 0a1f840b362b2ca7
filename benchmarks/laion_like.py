"""LAION-shaped metadata for benchmarks: the columns, types, text lengths and score distributions of the released files.

Addresses and captions are drawn from large pools, so that they compress as real ones do (about 2:1 with snappy).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROW_GROUP = 250_000
ROWS_A_FILE = 2_500_000
_POOL = 1 << 17
_SIDES = np.array([150, 200, 225, 236, 300, 320, 400, 450, 500, 512, 600, 640, 768, 800, 1000, 1024, 1200, 1500, 2000])
_SYLLABLES = "ba be bo ca ce co da de di do fa fi ga go ha hi ka ki la le lo ma me mi na ne no pa pe ra re ro sa se si"


def write_laion_like(
    folder: Path, rows: int, row_group: int = ROW_GROUP, rows_a_file: int = ROWS_A_FILE, by_score: bool = False
) -> list[Path]:
    """Make files of `rows` rows all together below `folder`; those that stand there whole are left as they are.

    Args:
        row_group: rows in a row group.
        rows_a_file: rows in a file.
        by_score: each file holds its rows in the order of their aesthetic score, as collections that were sorted do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = _Texts(np.random.default_rng(0))
    paths = []
    for number, start in enumerate(range(0, rows, rows_a_file)):
        count = min(rows_a_file, rows - start)
        path = folder / f"part-{number:05d}-{count}-{row_group}{'-by-score' if by_score else ''}.parquet"
        paths.append(path)
        if path.exists():
            continue
        aside = path.with_suffix(".partial")
        generator = np.random.default_rng([number, count])
        scores = generator.normal(4.9, 0.72, count).clip(1.2, 9.4).astype(np.float32)
        if by_score:
            scores.sort()
        with pq.ParquetWriter(aside, texts.table(generator, 0, scores[:1]).schema, compression="snappy") as writer:
            for low in range(0, count, row_group):
                table = texts.table(generator, start + low, scores[low : low + row_group])
                writer.write_table(table, row_group_size=row_group)
        aside.replace(path)
    return paths


class _Texts:
    """Pools of captions, hosts and paths that rows are put together from."""

    def __init__(self, generator: np.random.Generator) -> None:
        syllables = _SYLLABLES.split()
        words = ["".join(generator.choice(syllables, count)) for count in generator.integers(1, 5, 20_000)]
        drawn = np.minimum(generator.zipf(1.3, (_POOL, 14)), len(words)) - 1
        lengths = generator.integers(3, 15, _POOL)
        picked = ([words[place] for place in row[:length]] for row, length in zip(drawn, lengths, strict=True))
        self.captions = pa.array([" ".join(row).capitalize() for row in picked])
        self.hosts = pa.array([f"https://{words[place]}.{words[-place]}.com" for place in range(1, 9_000)])
        self.paths = pa.array([f"/wp-content/uploads/{generator.bytes(14).hex()}/" for _ in range(_POOL)])

    def table(self, generator: np.random.Generator, first: int, scores: np.ndarray) -> pa.Table:
        """Rows `first` and following, one a score."""
        rows = len(scores)

        def draw(pool: pa.Array) -> pa.Array:
            return pool.take(pa.array(generator.integers(0, len(pool), rows)))

        number = pa.array(np.arange(first, first + rows))
        url = pc.binary_join_element_wise(draw(self.hosts), draw(self.paths), number.cast(pa.string()), ".jpg", "")
        unsafe = generator.beta(0.25, 6.0, rows).astype(np.float32)
        return pa.table(
            {
                "SAMPLE_ID": pa.array(generator.integers(0, 2**62, rows)),
                "URL": url,
                "TEXT": draw(self.captions),
                "WIDTH": pa.array(generator.choice(_SIDES, rows).astype(np.int32)),
                "HEIGHT": pa.array(generator.choice(_SIDES, rows).astype(np.int32)),
                "LICENSE": pa.array(np.full(rows, "?")),
                "NSFW": pa.array(np.where(unsafe > 0.5, "NSFW", "UNLIKELY")),
                "similarity": pa.array(generator.normal(0.32, 0.03, rows).clip(0.2, 0.6)),
                "pwatermark": pa.array(generator.beta(0.6, 1.6, rows).astype(np.float32)),
                "punsafe": pa.array(unsafe),
                "AESTHETIC_SCORE": pa.array(scores),
            }
        )
