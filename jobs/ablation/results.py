"""What the runs measured, in tables: `ablation.parquet`, a row for each arm, seed, item and noise level;
`other_instruction.parquet`, the same of the items that were also taken with another item's instruction; and
`edits.parquet`, a row for each edit that was sampled. The same runs give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.ablation.runs import Run
from schemas.atomic import write_whole
from schemas.errors import InputError
from trainer.validation.validate import EDITS_FILE, LOSS_FILE, OTHER_INSTRUCTION_FILE

LOSSES = "ablation.parquet"
OTHERS = "other_instruction.parquet"
EDITS = "edits.parquet"


@dataclass(frozen=True)
class Results:
    """The tables; None where nothing of the kind was measured.

    Args:
        losses: columns arm, seed and those of `trainer.validation.loss_rows.LOSS_SCHEMA`.
        others: the same columns, with other instructions.
        edits: columns arm, seed, noise_seed and the other fields of `trainer.validation.edits.EditFigures`.
    """

    losses: pa.Table
    others: pa.Table | None
    edits: pa.Table | None


def gather(runs: Sequence[Run], folder: Path) -> Results:
    """Read what every run measured at its end, and write it below `folder`."""
    losses = _joined(runs, LOSS_FILE, pq.read_table)
    if losses is None:
        raise InputError("runs", str(folder), "measured no held-out loss", "Delete them and start the ablation again.")
    results = Results(losses, _joined(runs, OTHER_INSTRUCTION_FILE, pq.read_table), _joined(runs, EDITS_FILE, _edits))
    for name, table in ((LOSSES, results.losses), (OTHERS, results.others), (EDITS, results.edits)):
        if table is not None:
            with write_whole(folder / name) as stream:
                pq.write_table(table, stream)
    return results


def _joined(runs: Sequence[Run], name: str, read: Callable[[Path], pa.Table]) -> pa.Table | None:
    found = [_marked(read(run.evaluation / name), run) for run in runs if (run.evaluation / name).is_file()]
    return pa.concat_tables(found, promote_options="permissive") if found else None


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
