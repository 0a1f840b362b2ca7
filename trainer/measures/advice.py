"""What to change where a run does not fit: every change is planned anew, and those that help come largest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.config import parse_config
from schemas.errors import ConfigError
from trainer.config import TrainConfig, replace
from trainer.measures.memory import estimate_memory
from trainer.measures.plan import Plan, prepared_skeleton, typical_row

SAME_PASSES = {"ema.device", "optimizer.name"}
"""What changes nothing in the forward and backward pass."""
LEAST = 0.01
"""A change that lowers the need by less than this share is not told."""


@dataclass(frozen=True)
class Change:
    """A change of the config, or of the number of processes.

    Args:
        values: dotted key -> value, as `--set` takes them.
        ranks: processes then.
        cost: what it costs, in words.
        needed: bytes that a device must have then.
    """

    values: dict[str, Any]
    ranks: int
    cost: str
    needed: int

    @property
    def text(self) -> str:
        """How to ask for it on the command line."""
        return " ".join(f"{name}={_yaml(value)}" for name, value in self.values.items()) or f"{self.ranks} processes"


def advise(plan: Plan) -> list[Change]:
    """Changes that lower the need, the most effective first; then, where none alone is enough but together they are,
    as many of them as it takes, as one change."""
    changes = [_planned(plan, values, ranks, cost) for values, ranks, cost in _candidates(plan)]
    helpful = sorted(
        (change for change in changes if change and change.needed < (1 - LEAST) * plan.memory.needed),
        key=lambda change: change.needed,
    )
    room = plan.device_bytes
    if room is None or not helpful or helpful[0].needed <= room:
        return helpful
    values: dict[str, Any] = {}
    # A lower resolution or another stage makes another run: the last resort, and not part of a mixture.
    for change in helpful:
        if not change.values or {"data.resolution", "stage"} & set(change.values):
            continue
        values |= change.values
        together = _planned(plan, values, plan.ranks, "all of these")
        if len(values) > 1 and together and together.needed <= room:
            return [*helpful, together]
    return helpful


def spare(plan: Plan) -> list[Change]:
    """What a run that fits has room for, and gains speed by."""
    config, room = plan.config, plan.device_bytes or 0
    tried: list[tuple[dict[str, Any], str]] = []
    if config.engine.gradient_checkpointing:
        share = plan.parts.total.recompute / plan.parts.total.hardware
        values: dict[str, Any] = {"engine.gradient_checkpointing": False}
        if config.engine.checkpoint_every > 1:
            values["engine.checkpoint_every"] = 1
        tried.append((values, f"{share:.0%} less compute"))
    if config.gradient_accumulation % 2 == 0:
        fewer = {"batch_size": 2 * config.batch_size, "gradient_accumulation": config.gradient_accumulation // 2}
        tried.append((fewer, "the same global batch in fewer, busier passes"))
    changes = [_planned(plan, values, plan.ranks, gain) for values, gain in tried]
    return [change for change in changes if change is not None and change.needed <= room]


def _candidates(plan: Plan) -> Iterator[tuple[dict[str, Any], int, str]]:
    """Changes worth trying, each as values, number of ranks and its cost."""
    config, ranks = plan.config, plan.ranks
    engine = config.engine
    if not engine.gradient_checkpointing:
        yield {"engine.gradient_checkpointing": True}, ranks, "about a third more compute"
    elif engine.checkpoint_every > 1:
        yield {"engine.checkpoint_every": 1}, ranks, "more compute"
    if config.batch_size > 1:
        accumulated = {"batch_size": 1, "gradient_accumulation": config.gradient_accumulation * config.batch_size}
        yield accumulated, ranks, "less busy kernels"
    if ranks > 1:
        for stage in (2, 3):
            if stage > engine.zero_stage:
                yield {"engine.zero_stage": stage}, ranks, "more communication"
    if engine.zero_stage > 0:
        yield {}, 2 * ranks, "as many GPUs again"
        if not engine.offload_optimizer and config.optimizer.name == "adamw":
            yield {"engine.offload_optimizer": True}, ranks, "a slower step, in host memory"
    if config.optimizer.name == "adamw":
        yield {"optimizer.name": "adamw_8bit"}, ranks, "moments of 8 bit"
    if config.averages and config.ema.device != "cpu":
        yield {"ema.device": "cpu"}, ranks, "a copy to the host every step"
    if engine.zero_stage > 0 and engine.reduce_bucket_size > 50_000_000:
        yield {"engine.reduce_bucket_size": 50_000_000}, ranks, "more, smaller messages"
    if config.stage in ("edit", "full"):
        yield {"stage": "lora"}, ranks, "trains adapters only"
    smaller = config.data.resolution * 3 // 4 // 16 * 16
    if smaller >= 128:
        yield {"data.resolution": smaller}, ranks, "smaller images"


def _planned(plan: Plan, values: dict[str, Any], ranks: int, cost: str) -> Change | None:
    """The change with what it comes to; None where the config does not allow it."""
    changed = plan.config.as_json()
    for name, value in values.items():
        replace(changed, name, value)
    if values.get("stage"):
        changed["trainable"] = None
    try:
        other = parse_config(TrainConfig, changed, "advice")
        skeleton, _ = prepared_skeleton(other)
    except ConfigError:
        return None
    rows = [typical_row(other, skeleton)] * other.batch_size
    same_passes = plan.memory.rehearsal if set(values) and set(values) <= SAME_PASSES else None
    return Change(values, ranks, cost, estimate_memory(other, skeleton, ranks, rows, plan.on_gpu, same_passes).needed)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
