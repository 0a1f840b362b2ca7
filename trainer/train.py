"""Training, from shards to an export. Run by `editmill train`, or under torchrun or the deepspeed launcher:

torchrun --nproc-per-node 8 -m trainer.train configs/train/edit-8xh100.yaml
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from schemas.errors import ConfigError, EditmillError
from trainer import distributed, run_folder
from trainer.checkpoints.checkpoint import complete_checkpoints
from trainer.checkpoints.optimizer_state import trainable
from trainer.config import TrainConfig, load_train_config
from trainer.data.batch import MicroBatch
from trainer.distributed import Ranks
from trainer.errors import TrainingStopped
from trainer.export import EXPORT, export
from trainer.finite import GradientWatch, stop_unless_loss_is_finite
from trainer.logbook import Logbook
from trainer.loss.reduction import LossReport, global_count, local_objective, report, sums
from trainer.measures.afterwards import compare_memory
from trainer.measures.flops import StepFlops
from trainer.measures.memory import gib
from trainer.measures.throughput import StepMeter, peak_flops, resident
from trainer.optimization import engine
from trainer.optimization.optimizers import measures
from trainer.optimization.schedules import learning_rate_at
from trainer.reporting.boards import check_boards
from trainer.session import Session, build
from trainer.signals import STOP_FILE, stop_requests
from unified_model.skeleton import skeleton_of_model

OnStep = Callable[[dict[str, Any]], None]
"""Called on the first rank with each line of log.jsonl."""


@dataclass(frozen=True)
class TrainResult:
    """What a call came to.

    Args:
        step: optimizer steps done in the whole run.
        finished: all steps are done, and the export is written; False after SIGTERM.
        already_finished: it was so before, and nothing was done.
        export: the folder to give to `editmill edit --checkpoint`; None where not finished.
        checkpoint: the newest complete checkpoint.
        bad_samples: samples skipped in the whole run.
    """

    step: int
    finished: bool
    already_finished: bool
    export: Path | None
    checkpoint: Path | None
    bad_samples: int


def train(config: TrainConfig, on_step: OnStep | None = None, restart: bool = False) -> TrainResult:
    """Train to the end, or until SIGTERM; a run that was begun goes on from its newest checkpoint.

    Every rank calls this. Several runs may follow each other in one process.

    Args:
        restart: delete what the run's folder holds of an earlier run, and start over.

    Raises:
        EditmillError: a wrong config, input or shard, before anything is trained.
        TrainingStopped: a non-finite loss or too many bad samples; checkpoints stay as they are.
    """
    ranks = distributed.start()
    with run_folder.held(config, ranks), stop_requests(Path(config.output)) as asked_to_stop:
        return _train(config, on_step, restart, ranks, asked_to_stop)


def _train(
    config: TrainConfig, on_step: OnStep | None, restart: bool, ranks: Ranks, asked_to_stop: Callable[[], bool]
) -> TrainResult:
    run = Path(config.output)
    if restart:
        ranks.together(lambda: run_folder.clear(config) if ranks.is_first else None)
    start = ranks.together(lambda: run_folder.look(config, ranks.world))
    if start.finished:
        return TrainResult(start.step, True, True, run / EXPORT, start.checkpoint, start.bad_samples)
    ranks.together(lambda: check_boards(config))
    resident_at_start = resident()
    session = build(config, ranks, start)
    ranks.together(lambda: run_folder.prepare(config) if ranks.is_first else None)
    with Logbook(config, session.step, ranks) as logbook:
        lines = [*session.data.lines(), *(session.cache.lines if session.cache else [])]
        logbook.samples(len(session.data.index), session.data.index.left_out, lines)
        if config.hardware.processes not in (None, ranks.world):
            logbook.say(
                f"planned for {config.hardware.processes} processes (hardware.processes), started on {ranks.world}: "
                f"a step takes {config.global_batch(ranks.world)} samples"
            )
        logbook.trainable(session.counts, session.core_parameters)
        if session.validation is not None:
            logbook.held_out(session.validation.held_out, session.data.index)
        stopped = _loop(session, logbook, asked_to_stop, on_step, resident_at_start)
        if stopped:
            logbook.say(f"stopped at step {session.step} of {config.steps}, all saved: start it again to go on")
        else:
            adapter_only = config.adapts and config.lora.export == "adapter"
            folder = export(run, session.model, session.ema, ranks, adapter_only=adapter_only)
            held = "raw and averaged weights" if session.ema else "raw weights only, as the run keeps no moving average"
            logbook.say(f"done: {folder} ({held})")
        ranks.together(lambda: logbook.report(finished=not stopped))
    return TrainResult(
        step=session.step,
        finished=not stopped,
        already_finished=False,
        export=None if stopped else run / EXPORT,
        checkpoint=next(reversed(complete_checkpoints(run)), None),
        bad_samples=session.bad_samples,
    )


def _loop(
    session: Session,
    logbook: Logbook,
    asked_to_stop: Callable[[], bool],
    on_step: OnStep | None,
    resident_at_start: int,
) -> bool:
    """Step to the end; True where SIGTERM came first. A checkpoint stands at the end either way."""
    config, ranks = session.config, session.ranks
    if _is_asked(asked_to_stop, session):
        return True
    if session.is_validation_due() and not ranks.gather(logbook.has_validation(session.step))[0]:
        _validate(session, logbook)
    batches = session.batches()
    flops = StepFlops(skeleton_of_model(session.model), config.engine.recompute_every)
    meter = StepMeter(flops, ranks, peak_flops(config.hardware, ranks.device))
    watch = GradientWatch(trainable(session.model.core), config.gradient_accumulation, ranks.device)
    while session.step < config.steps:
        meter.begin()
        with meter.waiting():
            micro = [next(batches) for _ in range(config.gradient_accumulation)]
        count = _count(session, micro, logbook)
        rate = learning_rate_at(session.step, config)
        engine.set_learning_rate(session.engine, rate)
        parts, per_sample, norm = [], [], None
        for number, batch in enumerate(micro):
            weights, usable = batch.weights.to(ranks.device), batch.usable.to(ranks.device)
            meter.take(batch)
            errors = session.errors(batch)
            watch.begin(number)
            engine.backward(session.engine, local_objective(errors, weights, usable, count), config, ranks)
            parts.append(sums(errors, weights, batch.cells.to(ranks.device), usable, batch.mask_statuses))
            per_sample.append(errors.detach().sum(dim=(1, 2, 3)))
            if number == len(micro) - 1:
                total = ranks.sum(torch.stack(parts).sum(dim=0))
                stop_unless_loss_is_finite(total, per_sample, micro, session.step + 1, ranks)
            norm = engine.step(session.engine, config)
        watch.stop_unless_finite(norm, micro, session.step + 1, ranks)
        if session.ema is not None:
            session.ema.update()
        session.step += 1
        record = _record(session, report(total, config.weighting), norm, rate, meter)
        logbook.step(record, session.next_validation())
        if on_step is not None and ranks.is_first:
            on_step(record)
        stop = _is_asked(asked_to_stop, session)
        if session.is_validation_due() and not stop:
            _validate(session, logbook)
        due = stop or session.step % config.checkpoints.every == 0 or session.step == config.steps
        if due or session.is_best():
            _save(session, logbook)
        if stop and session.step < config.steps:
            return True
    if meter.most_memory:
        compare = partial(compare_memory, config, ranks.world, ranks.device, meter.most_memory, resident_at_start)
        ranks.together(lambda: logbook.say(compare()) if ranks.is_first else None)
    return False


def _validate(session: Session, logbook: Logbook) -> None:
    """Validate, and write what came of it, before a checkpoint of the same step. A collective."""
    began = time.perf_counter()
    logbook.doing("validating")
    outcome = session.validate()
    if session.validation is not None and outcome is not None:
        held_out, seconds = session.validation.held_out, time.perf_counter() - began
        session.ranks.together(lambda: logbook.validation(session.step, outcome, held_out, seconds))
    logbook.doing("")


def _is_asked(asked_to_stop: Callable[[], bool], session: Session) -> bool:
    """Whether any rank was asked to stop. A collective."""
    asked = bool(session.ranks.sum(torch.tensor(float(asked_to_stop()))))
    if asked and session.ranks.is_first:
        (Path(session.config.output) / STOP_FILE).unlink(missing_ok=True)
    return asked


def _save(session: Session, logbook: Logbook) -> None:
    """Write a checkpoint, and say how large it is. A collective."""
    began = time.perf_counter()
    saved = session.save()
    parts = ", ".join(f"{kind} {gib(size)}" for kind, size in saved.sizes.items())
    seconds = time.perf_counter() - began
    gone = "".join(f"; deleted step-{step:06d}" for step in saved.deleted)
    logbook.say(f"saved {saved.folder.name}: {gib(sum(saved.sizes.values()))} ({parts}) in {seconds:.1f} s{gone}")


def _record(session: Session, losses: LossReport, norm: float | None, rate: float, meter: StepMeter) -> dict[str, Any]:
    """The line of log.jsonl for the step just done. A collective."""
    return {
        "step": session.step,
        "loss": losses.loss,
        "loss_unweighted": losses.plain,
        "mean_weight": losses.mean_weight,
        "share_inside": losses.share_inside,
        "loss_inside": losses.inside,
        "loss_outside": losses.outside,
        "gradient_norm": norm,
        "learning_rate": rate,
        **measures(session.engine.optimizer),
        "samples": losses.samples,
        **{f"share_{status}": share for status, share in losses.statuses.items()},
        **meter.end(losses.samples),
        "keys": session.keys_digest(session.step - 1),
    }


def _count(session: Session, micro: list[MicroBatch], logbook: Logbook) -> float:
    """The loss's denominator over the global batch; counts and logs bad samples."""
    config, ranks = session.config, session.ranks
    own = global_count([batch.weights for batch in micro], [batch.usable for batch in micro], config.weighting)
    bad = [sample for batch in micro for sample in batch.bad]
    count, all_bad = ranks.sum(torch.stack([own, torch.tensor(len(bad), dtype=torch.float64)])).tolist()
    if all_bad:
        session.bad_samples += int(all_bad)
        logbook.skipped(session.step + 1, [sample for part in ranks.gather(bad) for sample in part])
    seen = (session.step + 1) * config.global_batch(ranks.world)
    budget = config.data.max_bad_samples + config.data.max_bad_share * seen
    if session.bad_samples > budget or not count:
        raise TrainingStopped(
            "bad samples",
            f"{session.bad_samples} of {seen}",
            f"more than data.max_bad_samples = {config.data.max_bad_samples} and the share data.max_bad_share = "
            f"{config.data.max_bad_share} of all"
            if count
            else "no usable sample in a whole step",
            f"See {Path(config.output) / run_folder.SKIPPED}; run `editmill validate` on the shards. A run that "
            "goes on may raise either.",
        )
    return float(count)


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """`key=value` strings, the values read as YAML.

    Raises:
        ConfigError: one has no `=`, or a value that is no YAML.
    """
    parsed = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ConfigError("--set", change, "must be key=value", "For example --set optimizer.learning_rate=1e-4.")
        try:
            parsed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError("--set", change, "has a value that is no YAML", "Quote it.") from error
    return parsed


def main(arguments: list[str] | None = None) -> int:
    """The entry of one rank; returns the exit code: 0 done, or saved when asked to stop; 1 stopped; 2 wrong call or
    input."""
    parser = argparse.ArgumentParser(prog="python -m trainer.train", description=train.__doc__)
    parser.add_argument("config", type=Path, help="YAML file, see configs/train/edit-8xh100.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a value of the file")
    parser.add_argument("--restart", action="store_true", help="delete what the run's folder holds, and start over")
    parser.add_argument(
        "--unfinished-code",
        type=int,
        default=0,
        metavar="CODE",
        help="exit code of a run that was asked to stop and saved, for a scheduler that starts it again (default: 0)",
    )
    # The deepspeed launcher adds this; the environment says the same.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    is_first = distributed.first_by_environment()
    try:
        result = train(load_train_config(options.config, parse_changes(options.set)), restart=options.restart)
    except EditmillError as error:
        if is_first:
            sys.stderr.write(f"error: {error}\n")
        return 1 if isinstance(error, TrainingStopped) else 2
    if is_first and result.already_finished:
        sys.stderr.write(f"finished already, at step {result.step}: {result.export}\n")
    return 0 if result.finished else int(options.unfinished_code)


if __name__ == "__main__":
    distributed.leave(main())
