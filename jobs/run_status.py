"""How far a run is, from its manifest, its log and its lock alone: cheap, and possible while it runs elsewhere."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from jobs.event_log import read_events
from jobs.run_folder import LOCK, RunFolder
from jobs.run_manifest import read_run_manifest
from schemas.folders import NO_LOCKS

State = Literal["running", "stopped", "finished"]


@dataclass
class StageStatus:
    """One stage so far.

    Args:
        name: of the source or step.
        partitions: done, by this start of the run and by former ones.
        rows_in, kept: rows.
        rejected: reason -> rows.
        rows_now: of `rows_in`, those done since the run was last started.
    """

    name: str
    partitions: int = 0
    rows_in: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rows_now: int = 0
    partitions_now: int = 0


@dataclass(frozen=True)
class RunStatus:
    """A run so far.

    Args:
        state: `running` while a process holds the folder; `stopped` where it ended before its time.
        partitions: of the input; 0 where the run has not got so far.
        stages: in order.
        began, last_event: UTC; of the last start; None where it left no event yet.
        failure: what ended the last start, in words, or None.
        pack: (part of the pack, done, total) where it has begun.
    """

    name: str
    state: State
    partitions: int
    stages: tuple[StageStatus, ...]
    began: datetime | None
    last_event: datetime | None
    failure: str | None
    pack: tuple[str, int, int] | None

    def seconds_left(self, now: datetime) -> float | None:
        """Until the last stage has all partitions, at the pace since the last start; None where nothing tells yet."""
        if self.state != "running" or self.began is None or not self.stages:
            return None
        last = self.stages[-1]
        if not last.partitions_now:
            return None
        return (now - self.began).total_seconds() / last.partitions_now * (self.partitions - last.partitions)

    def rows_per_second(self, stage: StageStatus, now: datetime) -> float | None:
        """Since the last start, until now or until it ended; None where it did nothing of the stage."""
        until = now if self.state == "running" else self.last_event
        if self.began is None or until is None or not stage.rows_now:
            return None
        return stage.rows_now / max((until - self.began).total_seconds(), 1e-3)

    def as_json(self, now: datetime) -> dict[str, Any]:
        """Plain values, for machines."""
        return {
            "name": self.name,
            "state": self.state,
            "partitions": self.partitions,
            "stages": [
                {
                    "name": stage.name,
                    "partitions": stage.partitions,
                    "rows_in": stage.rows_in,
                    "kept": stage.kept,
                    "rejected": dict(sorted(stage.rejected.items())),
                    "rows_per_second": self.rows_per_second(stage, now),
                }
                for stage in self.stages
            ],
            "began": self.began and self.began.isoformat(),
            "last_event": self.last_event and self.last_event.isoformat(),
            "seconds_left": self.seconds_left(now),
            "failure": self.failure,
            "pack": self.pack and dict(zip(("part", "done", "total"), self.pack, strict=True)),
        }


def read_status(path: Path) -> RunStatus:
    """The status of the run in the folder `path`.

    Raises:
        InputError, SchemaVersionError: as `read_run_manifest`.
    """
    manifest = read_run_manifest(path)
    names = [*manifest.config["source"], *(name for step in manifest.config["steps"] for name in step)]
    stages = [StageStatus(name) for name in names]
    partitions, began, last, failure = 0, None, None, None
    pack: tuple[str, int, int] | None = None
    is_this_run = False
    for event in read_events(RunFolder(path).log):
        kind, time = event["event"], datetime.fromisoformat(event["time"])
        if kind == "run_begins":
            # Events of a former config say nothing of this one.
            is_this_run = event["fingerprint"] == manifest.fingerprint
            stages, pack, failure = [StageStatus(name) for name in names], None, None
            partitions, began = event["partitions"], time
        if not is_this_run:
            continue
        last = time
        if kind == "found":
            for stage, found in zip(stages, event["stages"], strict=True):
                _add(stage, found["partitions"], found)
        elif kind == "committed":
            stage = stages[event["position"]]
            _add(stage, 1, event)
            stage.rows_now += event["rows_in"]
            stage.partitions_now += 1
        elif kind == "packing":
            pack = (event["part"], event["done"], event["total"])
        elif kind == "run_fails":
            failure = event["error"]
    state: State = "finished" if manifest.status == "finished" else "running" if _is_held(path) else "stopped"
    return RunStatus(manifest.name, state, partitions, tuple(stages), began, last, failure, pack)


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def _add(stage: StageStatus, partitions: int, values: Mapping[str, Any]) -> None:
    stage.partitions += partitions
    stage.rows_in += values["rows_in"]
    stage.kept += values["kept"]
    stage.rejected.update(values["rejected"])


def _is_held(path: Path) -> bool:
    try:
        with (path / LOCK).open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        # Where the file system knows no locks, nothing tells that the process is gone.
        if isinstance(error, BlockingIOError) or error.errno in NO_LOCKS:
            return True
        raise
    return False
