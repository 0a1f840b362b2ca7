"""What the runs measured, in two tables: `ablation.parquet`, a row for each arm, seed, item and noise level, and
`edits.parquet`, a row for each edit that was sampled. The same runs give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.ablation.runs import Run
from schemas.atomic import write_whole
from trainer.validation.validate import EDITS_FILE, LOSS_FILE

LOSSES = "ablation.parquet"
EDITS = "edits.parquet"


def gather(runs: Sequence[Run], folder: Path) -> tuple[pa.Table, pa.Table | None]:
    """Read what every run measured at its end, and write it below `folder`.

    Returns:
        the losses, and the edits where any were sampled.
    """
    losses = pa.concat_tables([_marked(pq.read_table(run.evaluation / LOSS_FILE), run) for run in runs])
    with write_whole(folder / LOSSES) as stream:
        pq.write_table(losses, stream)
    found = [
        _marked(_edits(run.evaluation / EDITS_FILE), run) for run in runs if (run.evaluation / EDITS_FILE).is_file()
    ]
    if not found:
        return losses, None
    edits = pa.concat_tables(found, promote_options="permissive")
    with write_whole(folder / EDITS) as stream:
        pq.write_table(edits, stream)
    return losses, edits


def _marked(table: pa.Table, run: Run) -> pa.Table:
    """The table with the arm and the seed in front."""
    seeds = pa.array([run.seed] * table.num_rows, pa.int64())
    arms = pa.array([run.arm] * table.num_rows, pa.string())
    return table.add_column(0, "seed", seeds).add_column(0, "arm", arms)


def _edits(path: Path) -> pa.Table:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    # The run's own seed is what a reader of the table looks for under that name.
    return pa.Table.from_pylist(
        [{("noise_seed" if name == "seed" else name): value for name, value in row.items()} for row in rows]
    )
