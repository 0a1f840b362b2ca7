"""A step that decides over all partitions: decided once, the same wherever it runs, and again only when it must be."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain_parts import Heard, Numbers, NumbersConfig, Offset, OffsetConfig, Square, SquareConfig, Top, TopConfig, tree
from pair_files import command, editmill, environment, write_config
from PIL import Image

from jobs.chain import Chain, make_chain, over_partitions
from jobs.config import PipelineConfig
from jobs.pipeline import run_pipeline
from jobs.run_folder import RunFolder
from jobs.runners.config import RunnerConfig
from jobs.runners.run_chain import run_chain
from jobs.work import run_step
from schemas.config import parse_config
from schemas.errors import InputError

RAY = RunnerConfig(kind="ray", workers=2, object_store_mib=200)


def chain_of(
    partitions: int = 4, rows: int = 10, modulo: int = 5, offset: int = 1, fail_at: int | None = None
) -> Chain:
    steps = [
        Square(SquareConfig(modulo=modulo, fail_at=fail_at)),
        Top(TopConfig()),
        Offset(OffsetConfig(offset=offset)),
    ]
    source = Numbers(NumbersConfig(partitions=partitions, rows=rows))
    return make_chain(source, steps)


def run(chain: Chain, path: Path, runner: RunnerConfig | None = None, only: int | None = None) -> Heard:
    heard = Heard()
    Top.decisions.clear()
    partitions = chain.plan.source.partitions()[:only]
    run_chain(over_partitions(chain, partitions), RunFolder(path), partitions, True, runner or RunnerConfig(), heard)
    return heard


def stages_done(heard: Heard) -> list[str]:
    return sorted({commit.stage for commit, found in heard.commits if not found})


def squares(folder: Path) -> list[int]:
    tables = [pq.read_table(path) for path in sorted((folder / "records").iterdir())]
    return [value for table in tables for value in table["square"].to_pylist()]


def test_one_decision_over_all_partitions_however_the_input_is_cut(tmp_path: Path) -> None:
    heard = run(chain_of(), tmp_path / "four")
    numbers = [n for n in range(40) if n % 7 != 3 and n % 5][-10:]
    assert squares(tmp_path / "four") == [n**2 + 1 for n in numbers]
    assert Top.decisions == [numbers[0] ** 2]
    assert len(heard.commits) == 4 * 4 and len(heard.finishes) == 4, "each commit is told of once"
    top = [commit for commit, _ in heard.commits if commit.stage == "top"]
    assert sum(commit.kept for commit in top) == 10
    run(chain_of(partitions=10, rows=4), tmp_path / "ten")
    assert squares(tmp_path / "ten") == squares(tmp_path / "four")


def test_a_finished_run_decides_nothing_and_a_changed_one_only_what_it_must(tmp_path: Path) -> None:
    run(chain_of(), tmp_path, only=3)
    assert stages_done(run(chain_of(), tmp_path, only=3)) == [] and Top.decisions == []
    assert stages_done(run(chain_of(offset=2), tmp_path, only=3)) == ["offset"] and Top.decisions == []
    heard = run(chain_of(), tmp_path)
    assert stages_done(heard) == ["numbers", "offset", "square", "top"] and len(Top.decisions) == 1
    redone = [commit.partition for commit, found in heard.commits if not found and commit.stage == "square"]
    assert len(redone) == 1, "one more partition: the decision is made anew, what stood before it is used"
    run(chain_of(), tmp_path / "at once")
    assert squares(tmp_path) == squares(tmp_path / "at once")


def test_a_run_that_failed_before_or_behind_the_decision_goes_on(tmp_path: Path) -> None:
    run(chain_of(), tmp_path / "whole")
    with pytest.raises(InputError, match="must not be this one"):
        run(chain_of(fail_at=36), tmp_path / "broken")
    assert not (tmp_path / "broken" / "records").exists() and Top.decisions == []
    run(chain_of(), tmp_path / "broken")
    # As a run that was killed behind the decision leaves it.
    for pattern in ("03-offset/*.json", "02-top/00002-*.json", "finished/00001-*.json"):
        for path in (tmp_path / "broken" / "steps").glob(pattern):
            path.unlink()
    heard = run(chain_of(), tmp_path / "broken")
    assert stages_done(heard) == ["offset", "top"] and Top.decisions == []
    assert tree(tmp_path / "broken", "records", "outcomes") == tree(tmp_path / "whole", "records", "outcomes")


def test_another_outcome_before_the_decision_takes_back_what_followed_it(tmp_path: Path) -> None:
    run(chain_of(), tmp_path)
    # As if a model, asked again, had answered otherwise for the partition with the largest squares.
    chain = chain_of()
    last = chain.plan.source.partitions()[3]
    other = Square(SquareConfig(modulo=2))
    run_step(chain.plan, RunFolder(tmp_path), last, 1, other, chain.plan.source.read(last).kept)
    record_of_top = next((tmp_path / "steps" / "02-top").glob("00003-*.json"))
    record_of_top.unlink()
    heard = run(chain_of(), tmp_path)
    assert stages_done(heard) == ["offset", "top"] and len(Top.decisions) == 1
    redone = {commit.partition for commit, found in heard.commits if not found and commit.stage == "top"}
    assert len(redone) == 4, "every partition follows the new decision"
    assert len(squares(tmp_path)) == 10


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_ray_comes_to_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    one = run(chain_of(), tmp_path / "one")
    two = run(chain_of(), tmp_path / "two", RAY)
    assert tree(tmp_path / "one", "records", "outcomes") == tree(tmp_path / "two", "records", "outcomes")
    assert len(one.commits) == len(two.commits) == 16


def write_pairs(folder: Path, count: int) -> Path:
    """`count` different pairs, each of them once more as a JPEG under another name, and three once more as they are."""
    folder.mkdir()
    lines = []

    def pair(name: str, before: Image.Image, after: Image.Image, number: int) -> None:
        kind = name.rpartition(".")[2]
        before.save(folder / f"before-{name}", quality=92)
        after.save(folder / f"after-{name}", quality=92)
        text = f"edit {number}" if kind == "png" else f"Edit {number}."
        lines.append({"reference": f"before-{name}", "target": f"after-{name}", "instruction": text})

    generator = np.random.default_rng(3)
    for number in range(count):
        small = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        before = Image.fromarray(small).resize((128, 128), Image.Resampling.BICUBIC)
        after = before.copy()
        after.paste((250, 20, 20), (16, 16, 80, 100))
        pair(f"{number}.png", before, after, number)
        pair(f"{number}.jpg", before, after, number)
        if number < 3:
            lines.append({**lines[-2], "instruction": f"EDIT {number}"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "pairs.jsonl"


def pipeline(path: Path, output: Path, rows: int) -> pa.Table:
    values = {
        "name": "deduplicated",
        "output": output,
        "source": {"edit_pairs_jsonl": {"path": str(path), "rows_per_partition": rows}},
        "steps": ["perceptual_hash", {"deduplicate": {"radius": 6}}],
    }
    report = run_pipeline(parse_config(PipelineConfig, values, "test"))
    assert report.kept == 8
    rejected = report.counts[-1].rejected
    # Where the JPEG has the smallest key, both copies of the PNG are near it.
    assert set(rejected) == {"exact_duplicate", "near_duplicate"} and sum(rejected.values()) == 11
    return pa.concat_tables([pq.read_table(file) for file in sorted((output / "records").iterdir())])


def test_a_pipeline_drops_copies_across_partitions(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", 8)
    few = pipeline(pairs, tmp_path / "few", 3)
    one = pipeline(pairs, tmp_path / "one", 100)
    assert few["key"].to_pylist() == one["key"].to_pylist()
    instructions = [int(text.strip(".").split()[1]) for text in few["instruction"].to_pylist()]
    assert sorted(instructions) == list(range(8)), "of every edit one stays"


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("after", ["01-perceptual_hash/00002-*.json", "02-deduplicate/*.json"])
def test_killed_on_either_side_of_the_decision_it_ends_with_the_same_files(tmp_path: Path, after: str) -> None:
    pairs = write_pairs(tmp_path / "pairs", 8)
    values = {
        "source": {"edit_pairs_jsonl": {"path": str(pairs), "rows_per_partition": 2}},
        "steps": ["perceptual_hash", {"deduplicate": {"radius": 6}}, {"masks": {"recipe": "seed"}}],
    }
    assert editmill("run", write_config(tmp_path / "whole.yaml", pairs, **values)).returncode == 0
    broken = write_config(tmp_path / "broken.yaml", pairs, **values)
    process = subprocess.Popen(command("run", str(broken)), env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "broken" / "steps").glob(after)) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert editmill("run", broken).returncode == 0
    for folder in ("shards", "outcomes"):
        assert tree(tmp_path / "broken", folder) == tree(tmp_path / "whole", folder)
