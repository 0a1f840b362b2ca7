"""From a probe of some rows to what a whole job will come to: rows, time, GPU-hours, bytes, money. Pure arithmetic.

The probe's rates are carried over to all rows; the interval of the yield is Wilson's (1927) at 95 %, which takes rows
as independent, so that partitions unlike the probed ones make it too narrow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_Z = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""
PACK = "pack"
"""The name of the pack among the stages."""


@dataclass(frozen=True)
class StageProbe:
    """A stage over the probed rows.

    Args:
        name: of the source or step.
        rows_in, kept: rows.
        rejected: reason -> rows.
        seconds: of work on one core, set-up apart.
        setup_seconds: to load what the stage needs, once a worker.
        gpus: held by each worker.
        prompt_tokens, completion_tokens, model_money: of replies of a model, and what they cost.
        written: bytes that the rows leave on the disk.
        written_beside: bytes that each partition leaves there besides.
        tried: False where the stage could not be tried: its rows are taken as kept, and its work is not known.
    """

    name: str
    rows_in: int
    kept: int
    rejected: Counter[str]
    seconds: float
    setup_seconds: float
    gpus: float
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    model_money: float = 0.0
    written: int = 0
    written_beside: int = 0
    tried: bool = True


@dataclass(frozen=True)
class StageForecast:
    """A stage over all rows; `seconds` of one core; tokens and money of replies of a model; `bytes` that it leaves on
    the disk; `tried` as `StageProbe`."""

    name: str
    rows_in: float
    kept: float
    rejected: dict[str, float]
    seconds: float
    gpu_seconds: float
    prompt_tokens: float
    completion_tokens: float
    model_money: float
    bytes: float
    tried: bool


@dataclass(frozen=True)
class Forecast:
    """What a job will come to.

    Args:
        rows: of the input.
        stages: in order; the last is "pack" where the job packs.
        kept, kept_low, kept_high: rows at the end, with the 95 % interval.
        seconds: wall time on `cores` cores, if they are always busy.
        core_hours, gpu_hours: of work.
        run_bytes, shard_bytes: left in the run folder, and in the folder of the shards.
        model_money: of replies of models.
        money: in the unit of the prices, or None without prices.
    """

    rows: float
    stages: tuple[StageForecast, ...]
    kept: float
    kept_low: float
    kept_high: float
    cores: int
    seconds: float
    core_hours: float
    gpu_hours: float
    run_bytes: float
    shard_bytes: float
    model_money: float
    money: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values, for machines."""
        return asdict(self)


def forecast(
    probes: Sequence[StageProbe],
    rows: float,
    partitions: int,
    cores: int,
    core_hour_price: float | None = None,
    gpu_hour_price: float | None = None,
) -> Forecast:
    """What the whole job will come to.

    Args:
        probes: of the source, of each step and of the pack, in order; each stage's rows in are the rows that the one
            before kept.
        rows: of the whole input, >= 0.
        partitions: of the whole input.
        cores: that work at the same time, >= 1.
        core_hour_price, gpu_hour_price: None where nothing is charged.

    Raises:
        ValueError: no probed row.
    """
    if not probes or probes[0].rows_in == 0:
        raise ValueError("a forecast needs at least one probed row")
    scale = rows / probes[0].rows_in
    stages = tuple(
        StageForecast(
            name=probe.name,
            rows_in=scale * probe.rows_in,
            kept=scale * probe.kept,
            rejected={reason: scale * count for reason, count in sorted(probe.rejected.items())},
            seconds=scale * probe.seconds,
            gpu_seconds=scale * probe.seconds * probe.gpus,
            prompt_tokens=scale * probe.prompt_tokens,
            completion_tokens=scale * probe.completion_tokens,
            model_money=scale * probe.model_money,
            bytes=scale * probe.written + partitions * probe.written_beside,
            tried=probe.tried,
        )
        for probe in probes
    )
    low, high = wilson(probes[-1].kept, probes[0].rows_in)
    core_seconds = sum(stage.seconds for stage in stages)
    core_hours, gpu_hours = core_seconds / 3600, sum(stage.gpu_seconds for stage in stages) / 3600
    model_money = sum(stage.model_money for stage in stages)
    money = None
    if core_hour_price is not None or gpu_hour_price is not None or model_money:
        money = core_hours * (core_hour_price or 0.0) + gpu_hours * (gpu_hour_price or 0.0) + model_money
    return Forecast(
        rows=rows,
        stages=stages,
        kept=stages[-1].kept,
        kept_low=rows * low,
        kept_high=rows * high,
        cores=cores,
        seconds=core_seconds / cores + sum(probe.setup_seconds for probe in probes),
        core_hours=core_hours,
        gpu_hours=gpu_hours,
        run_bytes=sum(stage.bytes for stage in stages if stage.name != PACK),
        shard_bytes=sum(stage.bytes for stage in stages if stage.name == PACK),
        model_money=model_money,
        money=money,
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson 1927): (low, high), each in 0..1.

    Args:
        successes: 0..trials.
        trials: >= 1.
    """
    share, z2 = successes / trials, _Z * _Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    reach = _Z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - reach), min(1.0, middle + reach)
