"""Try a chain on some rows of its input, in this process, and measure every stage; nothing that is written stays."""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from jobs.chain import Chain
from jobs.planning.forecast import PACK, StageProbe
from jobs.runners.answer_ahead import asks_vllm, is_open
from jobs.table_bytes import bytes_of_rows
from pipelines.dataset_step import DatasetStep
from pipelines.pack import PackConfig, pack
from pipelines.source import Partition
from pipelines.step import Step, StepResult
from pipelines.vlm.asker import Asker
from schemas.outcomes import no_rejections

PARTITIONS = 8
"""Partitions that a probe reads at most: reading one costs all its rows."""


@dataclass(frozen=True)
class Probe:
    """What a probe measured.

    Args:
        stages: the source first.
        partitions, partitions_read: of the input, and of these read.
        rows: of the whole input: counted where every partition was read, else in proportion to their ranges.
        outlook: what the source tells of the whole input from metadata alone.
    """

    stages: tuple[StageProbe, ...]
    partitions: int
    partitions_read: int
    rows: float
    outlook: Mapping[str, int]


def probe(
    chain: Chain,
    partitions: Sequence[Partition],
    rows: int,
    seed: int,
    gpus_per_model: float,
    pack_config: PackConfig | None = None,
) -> Probe:
    """Run up to `rows` rows through the chain: an equal share of a seeded choice of partitions. A step that asks vLLM
    is passed over, unless every reply is at hand: an engine is worth its start only for all questions at once.

    Args:
        partitions: at least one.
        rows: >= 1.
        gpus_per_model: what each worker of a step that holds a model will be given.
        pack_config: of the pack at the end; without one the rows are written to the run folder.

    Raises:
        EditmillError: of the source, a step or the pack, as the job itself would meet it.
    """
    choose = random.Random(seed)
    chosen = sorted(choose.sample(range(len(partitions)), min(PARTITIONS, rows, len(partitions))))
    share = -(-rows // len(chosen))
    read_rows, source_seconds, taken = 0, 0.0, []
    source = _Count()
    for number in chosen:
        start = time.monotonic()
        result = chain.plan.source.read(partitions[number])
        seconds = time.monotonic() - start
        read_rows += result.rows
        sampled = _sample(result, share, choose)
        source.add(sampled)
        # Reading a partition reads all of its rows; only the sampled ones are charged.
        source_seconds += seconds * sampled.rows / max(1, result.rows)
        taken.append(sampled.kept)
    table = pa.concat_tables(taken)
    first = source.probe(chain.plan.stages[0].name, source_seconds, 0.0, 0.0)
    stages = [_writing(first, table.select(["key"]))]
    for step in chain.steps:
        count, setup, rejected = _Count(), 0.0, no_rejections()
        asker = getattr(step, "asker", None)
        if table.num_rows and asks_vllm(step) and is_open(step, table):
            table = _untried(step, table)
            stages.append(StageProbe(step.name, table.num_rows, table.num_rows, Counter(), 0.0, 0.0, 0.0, tried=False))
            continue
        start = time.monotonic()
        if table.num_rows:
            if isinstance(step, DatasetStep):
                # Decided over the rows tried: of few rows, fewer are duplicates of each other.
                step = step.decided(partial(_itself, step.decide(step.survey(table))))
            step.setup()
            setup = time.monotonic() - start
            start = time.monotonic()
            result = step(table)
            count.add(result)
            table, rejected = result.kept, result.rejected
        probed = count.probe(step.name, time.monotonic() - start, setup, gpus_per_model if step.computes_model else 0.0)
        # The run folder keeps what the step adds, and at the end the rows as a whole.
        probed = _writing(probed, table.select(["key", *step.adds.names]))
        if rejected.num_rows:
            probed = _writing(probed, rejected)
        if isinstance(asker, Asker):
            prompt, completion = asker.used()
            money = asker.price(prompt, completion)
            probed = replace(probed, prompt_tokens=prompt, completion_tokens=completion, model_money=money)
        stages.append(probed)
    if pack_config is None:
        stages[-1] = _writing(stages[-1], table)
    elif table.num_rows and all(stage.tried for stage in stages):
        reading = source_seconds * table.num_rows / max(1, stages[0].rows_in)
        stages.append(_packed(table, pack_config, reading))
    # Ranges are in the source's own units (lines, row groups): partitions may be of very different lengths.
    total = read_rows * _length(partitions) / max(1, _length([partitions[number] for number in chosen]))
    return Probe(tuple(stages), len(partitions), len(chosen), total, chain.plan.source.outlook(partitions))


def _writing(stage: StageProbe, table: pa.Table) -> StageProbe:
    """The stage that writes this table of its rows, too."""
    rows, beside = bytes_of_rows(table)
    return replace(stage, written=stage.written + rows, written_beside=stage.written_beside + beside)


def _packed(table: pa.Table, config: PackConfig, reading: float) -> StageProbe:
    """Pack the rows in a temporary folder.

    Args:
        reading: seconds to read them once; packing reads every row to look at it, and once for each subset.
    """
    start = time.monotonic()
    with TemporaryDirectory(prefix="editmill-plan-") as folder:
        packed = pack([partial(_itself, table)], config, Path(folder)).manifest
        seconds = time.monotonic() - start + reading * (1 + max(1, len(config.subsets)))
    written = sum(entry.bytes for entry in (*packed.shards, packed.index))
    return StageProbe(PACK, packed.rows_in, packed.kept, Counter(packed.rejected), seconds, 0.0, 0.0, written=written)


def _untried(step: Step[Any], table: pa.Table) -> pa.Table:
    """`table` as if the step had kept every row and had written nothing into them."""
    for field in step.adds:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table


def _itself(table: pa.Table) -> pa.Table:
    return table


def _length(partitions: Sequence[Partition]) -> int:
    return sum(partition.stop - partition.start for partition in partitions)


def _sample(result: StepResult, most: int, choose: random.Random) -> StepResult:
    """`most` of a partition's rows, kept, rejected and counted ones alike, in their order."""
    kept, rejected = result.kept.num_rows, result.rejected.num_rows
    if result.rows <= most:
        return result
    rows = sorted(choose.sample(range(result.rows), most))
    first = pa.array([row for row in rows if row < kept], pa.int64())
    second = pa.array([row - kept for row in rows if kept <= row < kept + rejected], pa.int64())
    ends = list(accumulate(result.counted.values(), initial=kept + rejected))[1:]
    reasons = list(result.counted)
    counted = Counter(reasons[bisect_right(ends, row)] for row in rows if row >= kept + rejected)
    return StepResult(result.kept.take(first), result.rejected.take(second), counted)


class _Count:
    def __init__(self) -> None:
        self.kept = 0
        self.rejected: Counter[str] = Counter()

    def add(self, result: StepResult) -> None:
        self.kept += result.kept.num_rows
        self.rejected.update(result.rejected["reason"].to_pylist())
        self.rejected.update(result.counted)

    def probe(self, name: str, seconds: float, setup: float, gpus: float) -> StageProbe:
        return StageProbe(name, self.kept + self.rejected.total(), self.kept, self.rejected, seconds, setup, gpus)
