"""A chain in one process: adds up, goes on where it was, and does again only what a change touches."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain_parts import Heard, Numbers, NumbersConfig, Offset, OffsetConfig, Square, SquareConfig, tree

from jobs.chain import Chain, check_columns, make_chain
from jobs.run_folder import RunFolder
from jobs.runners.config import RunnerConfig
from jobs.runners.run_chain import run_chain
from schemas.errors import ConfigError, InputError


def chain_of(modulo: int = 5, offset: int = 1, fail_at: int | None = None) -> Chain:
    steps = [Square(SquareConfig(modulo=modulo, fail_at=fail_at)), Offset(OffsetConfig(offset=offset))]
    return make_chain(Numbers(NumbersConfig()), steps)


def run(chain: Chain, path: Path) -> Heard:
    heard = Heard()
    partitions = chain.plan.source.partitions()
    run_chain(chain, RunFolder(path), partitions, True, RunnerConfig(), heard)
    return heard


def stages_done(heard: Heard) -> set[str]:
    return {commit.stage for commit, found in heard.commits if not found}


def test_rows_are_kept_or_rejected_and_never_lost(tmp_path: Path) -> None:
    heard = run(chain_of(), tmp_path)
    assert len(heard.commits) == 4 * 3 and len(heard.finishes) == 4
    rows_in = {name: sum(c.rows_in for c, _ in heard.commits if c.stage == name) for name in ("numbers", "square")}
    kept = {name: sum(c.kept for c, _ in heard.commits if c.stage == name) for name in ("numbers", "offset")}
    assert rows_in["numbers"] == 40 and rows_in["square"] == kept["numbers"]
    outcomes = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "outcomes").iterdir())])
    assert kept["offset"] + outcomes.num_rows == 40
    assert set(outcomes["reason"].to_pylist()) == {"unreadable", "multiple"}
    records = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "records").iterdir())])
    assert records.num_rows == kept["offset"]
    assert records["square"].to_pylist() == [n**2 + 1 for n in range(40) if n % 7 != 3 and n % 5]


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    run(chain_of(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    heard = run(chain_of(), tmp_path)
    assert stages_done(heard) == set() and len(heard.commits) == 12
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_a_run_that_failed_goes_on_where_it_was(tmp_path: Path) -> None:
    run(chain_of(), tmp_path / "whole")
    with pytest.raises(InputError, match="must not be this one"):
        run(chain_of(fail_at=12), tmp_path / "broken")
    # Partition 0 is whole, partition 1 was read; fail_at is part of the step's config, so only the reading is reused.
    heard = run(chain_of(), tmp_path / "broken")
    found = [(commit.partition[:5], commit.stage) for commit, found in heard.commits if found]
    assert found == [("00000", "numbers"), ("00001", "numbers")]
    names = ("records", "outcomes")
    assert tree(tmp_path / "whole", *names) == tree(tmp_path / "broken", *names)


def test_a_changed_step_redoes_itself_and_what_follows(tmp_path: Path) -> None:
    run(chain_of(), tmp_path)
    assert stages_done(run(chain_of(offset=2), tmp_path)) == {"offset"}
    assert stages_done(run(chain_of(modulo=4, offset=2), tmp_path)) == {"square", "offset"}
    # Going back costs no step again, but the records are those of the config asked for.
    assert stages_done(run(chain_of(), tmp_path)) == set()
    run(chain_of(), tmp_path / "fresh")
    assert tree(tmp_path, "records", "outcomes") == tree(tmp_path / "fresh", "records", "outcomes")


def test_a_lost_or_altered_file_is_not_believed(tmp_path: Path) -> None:
    run(chain_of(), tmp_path)
    square = sorted((tmp_path / "steps" / "01-square").glob("*.delta.parquet"))
    square[2].unlink()
    again = [(c.partition, c.stage) for c, found in run(chain_of(), tmp_path).commits if not found]
    # That partition, from that step on.
    assert again == [("00002-00000002", "square"), ("00002-00000002", "offset")]
    data = bytearray(square[1].read_bytes())
    data[len(data) // 2] ^= 1
    square[1].write_bytes(data)
    (tmp_path / "steps" / "finished" / "00001-00000001.json").unlink()
    with pytest.raises(InputError, match="sha256 differs"):
        run(chain_of(), tmp_path)


def test_a_needed_column_must_come_from_somewhere() -> None:
    source = Numbers(NumbersConfig())
    wrong = make_chain(source, [Offset(OffsetConfig()), Square(SquareConfig())])
    with pytest.raises(ConfigError, match=r"steps\[0\].offset needs column 'square'.*Put the step 'square' before"):
        check_columns(wrong, source.columns())
    check_columns(chain_of(), source.columns())


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(InputError, match="another run works"),
        RunFolder(tmp_path).locked(),
    ):
        pass
