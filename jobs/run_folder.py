"""The run folder: where a run keeps what it has done, so that it can be killed anywhere and go on.

    runs/NAME/
        config.yaml     the resolved pipeline config
        manifest.json   the whole run in numbers; a reader of the run starts here (`jobs.run_manifest`)
        records/        PARTITION.parquet: the full rows after the last step
        outcomes/       PARTITION.parquet: every rejected row, with step, reason and sentence
        log.jsonl       events, one a line
        plan.json       what `editmill plan` expected, where it was asked
        replies/        what models replied, so that nothing is asked twice
        steps/          STAGE/PARTITION.FINGERPRINT.*: what each step added, committed partition by partition;
                        STAGE/decision.FINGERPRINT.*: what a dataset step decided over all of them

A step's commit is a *delta*: the kept keys and only the columns the step added, so that images are not written again at
every step. A table is the source's rows with the deltas applied in order.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.chain import Plan, Stage
from jobs.commits import Commit, CommittedFile, Decision, Finished, read_commit, write_commit
from jobs.planning.forecast_file import PLAN_NAME
from jobs.table_bytes import table_bytes
from pipelines.step import StepResult
from schemas.atomic import fingerprint, remove_partials, write_bytes
from schemas.errors import InputError
from schemas.folders import check_can_be_folder, check_holds_only, locked
from schemas.outcomes import no_rejections, up_to_date

REPLIES_NAME = "replies"
"""Folder of a run where the replies of models are kept, unless the config names another."""
LOCK = ".lock"
"""File in a run folder that is held with flock while a run works there."""
DECISION = "decision"
"""Stands in a file name where a partition's would, and is none's."""


@dataclass(frozen=True)
class RunFolder:
    """Paths, commits and files of one run folder. Holds only its path, so it travels to workers.

    Args:
        path: the folder; on a cluster it must be one that all nodes share.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """The run's manifest."""
        return self.path / "manifest.json"

    @property
    def log(self) -> Path:
        """Events, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    def check_is_free_or_ours(self) -> None:
        """Check that the path is free, or the folder of a run; changes nothing.

        Raises:
            InputError: it or one of its parents is a file, or it is a folder of something else.
        """
        check_can_be_folder(self.path, "output")
        if not self.manifest.exists() and not (self.path / "steps").exists():
            # What a plan, or a run that was killed before its first commit, may have left.
            check_holds_only(
                self.path, "output", (self.config.name, self.log.name, LOCK, PLAN_NAME, REPLIES_NAME), "no run"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock ends with the process, however that ends.

        Raises:
            InputError: another run works in it.
            OutputError: it cannot be written.
        """
        with locked(self.path, LOCK, "output", "another run"):
            yield

    def commit(self, stage: Stage, partition: str) -> Commit | None:
        """The valid commit of a stage for a partition, or None."""
        return read_commit(self._stem(stage, partition, ".json"), Commit, stage.fingerprint, self.path)

    def commits(self, stages: Sequence[Stage], partition: str) -> list[Commit]:
        """The commits of the longest committed beginning of `stages`."""
        done: list[Commit] = []
        for stage in stages:
            commit = self.commit(stage, partition)
            if commit is None:
                break
            done.append(commit)
        return done

    def write_stage(self, stage: Stage, partition: str, result: StepResult, seconds: float) -> Commit:
        """Commit a stage for a partition: the files first, the record that vouches for them last.

        Args:
            result: of the stage; its kept rows with their keys and what the stage added, no more.
        """
        outcomes = None
        if result.rejected.num_rows:
            outcomes = self._write_table(self._stem(stage, partition, ".outcomes.parquet"), result.rejected)
        rejected = Counter(result.rejected["reason"].to_pylist()) + Counter(result.counted)
        commit = Commit(
            partition=partition,
            position=stage.position,
            stage=stage.name,
            version=stage.version,
            fingerprint=stage.fingerprint,
            rows_in=result.rows,
            kept=result.kept.num_rows,
            rejected=dict(sorted(rejected.items())),
            figures=dict(result.figures),
            delta=self._write_table(self._stem(stage, partition, ".delta.parquet"), result.kept, exact=True),
            outcomes=outcomes,
            seconds=round(seconds, 3),
        )
        write_commit(self._stem(stage, partition, ".json"), commit)
        return commit

    def decision(self, stage: Stage) -> Decision | None:
        """The valid decision of a dataset step's stage, or None."""
        return read_commit(self._stem(stage, DECISION, ".json"), Decision, stage.fingerprint, self.path)

    def write_decision(self, stage: Stage, inputs: str, table: pa.Table) -> Decision:
        """Commit the decision of a dataset step's stage."""
        written = self._write_table(self._stem(stage, DECISION, ".parquet"), table, exact=True)
        decision = Decision(fingerprint=stage.fingerprint, inputs=inputs, table=written)
        write_commit(self._stem(stage, DECISION, ".json"), decision)
        return decision

    def forget(self, stages: Sequence[Stage], partitions: Sequence[str]) -> None:
        """Take back the commits of stages, so that their work is done again."""
        for stage in stages:
            for partition in partitions:
                self._stem(stage, partition, ".json").unlink(missing_ok=True)

    def finished(self, plan: Plan, partition: str, with_records: bool) -> Finished | None:
        """The valid record of a partition's end, or None."""
        return read_commit(self._finish_path(partition), Finished, finish_fingerprint(plan, with_records), self.path)

    def write_finish(self, plan: Plan, partition: str, commits: Sequence[Commit], records: pa.Table | None) -> Finished:
        """Write what users read of a partition: its rows after the last step, and its rejected rows.

        Args:
            commits: of every stage.
            records: the rows, or None where the pipeline ends in a pack.
        """
        # The files have the same names under every config: what vouched for the old ones goes first.
        self._finish_path(partition).unlink(missing_ok=True)
        tables = [up_to_date(self.read_table(commit.outcomes)) for commit in commits if commit.outcomes is not None]
        outcomes = self.path / "outcomes" / f"{partition}.parquet"
        rows = self.path / "records" / f"{partition}.parquet"
        finish = Finished(
            partition=partition,
            fingerprint=finish_fingerprint(plan, records is not None),
            records=None if records is None else self._write_table(rows, records),
            outcomes=self._write_table(outcomes, pa.concat_tables([no_rejections(), *tables])) if tables else None,
        )
        for path, written in ((rows, finish.records), (outcomes, finish.outcomes)):
            if written is None:
                path.unlink(missing_ok=True)
        write_commit(self._finish_path(partition), finish)
        return finish

    def read_table(self, file: CommittedFile) -> pa.Table:
        """A committed Parquet file.

        Raises:
            InputError: it is gone, or not what was committed.
        """
        return read_committed(self.path, file.name, file.sha256)

    def read_schema(self, file: CommittedFile) -> pa.Schema:
        """The schema of a committed Parquet file."""
        return pq.read_schema(self.path / file.name)

    def written(self, plan: Plan) -> Iterator[Path]:
        """The files that the stages of `plan` have left here, and the rows written after the last of them."""
        for stage in plan.stages:
            yield from (self.path / "steps" / stage.label).glob(f"*.{stage.fingerprint}.*")
        yield from (self.path / "records").glob("*.parquet")

    def write_outcomes(self, name: str, rejected: pa.Table) -> CommittedFile | None:
        """Write `outcomes/NAME.parquet`; without rows there is no such file."""
        path = self.path / "outcomes" / f"{name}.parquet"
        if rejected.num_rows:
            return self._write_table(path, rejected)
        path.unlink(missing_ok=True)
        return None

    def remove_strays(self, keep: set[str]) -> None:
        """Delete from `records/` and `outcomes/` what a former input or config left, and partial files everywhere.

        Args:
            keep: names to keep, relative to the run folder.
        """
        for stage in sorted((self.path / "steps").iterdir()):
            remove_partials(stage)
        for folder in ("records", "outcomes"):
            for path in sorted((self.path / folder).glob("*")):
                if f"{folder}/{path.name}" not in keep:
                    path.unlink()

    def _stem(self, stage: Stage, partition: str, suffix: str) -> Path:
        return self.path / "steps" / stage.label / f"{partition}.{stage.fingerprint}{suffix}"

    def _finish_path(self, partition: str) -> Path:
        return self.path / "steps" / "finished" / f"{partition}.json"

    def _write_table(self, path: Path, table: pa.Table, exact: bool = False) -> CommittedFile:
        data = table_bytes(table, exact)
        write_bytes(path, data)
        return CommittedFile(
            name=path.relative_to(self.path).as_posix(),
            rows=table.num_rows,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )


def finish_fingerprint(plan: Plan, with_records: bool) -> str:
    """What a partition's end depends on: the chain, and whether the rows are written out."""
    return fingerprint([plan.fingerprint, with_records])


def read_committed(folder: Path, name: str, sha256: str, rows: tuple[int, int] | None = None) -> pa.Table:
    """The Parquet file `name` of the run folder `folder`, once its hash is what was committed.

    Args:
        sha256: hexadecimal; the beginning of the hash is enough.
        rows: the first to read, and the one to stop before; default all.

    Raises:
        InputError: it is gone, or not what was committed.
    """
    path = folder / name
    mend = "Delete this file and run again: the work is done anew."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("run folder", str(path), f"cannot be read ({error.strerror})", mend) from error
    if not hashlib.sha256(data).hexdigest().startswith(sha256):
        raise InputError("run folder", str(path), "is not the file that was committed (sha256 differs)", mend)
    file = pq.ParquetFile(pa.BufferReader(data))
    if rows is None:
        return file.read()
    start, stop = rows
    first, at = 0, 0
    groups: list[int] = []
    for group in range(file.num_row_groups):
        following = at + file.metadata.row_group(group).num_rows
        if at < stop and following > start:
            first = first if groups else at
            groups.append(group)
        at = following
    return file.read_row_groups(groups).slice(start - first, stop - start)
