"""The command line over real pairs: what it writes, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from chain_parts import tree
from pair_files import ROOT, editmill, lines_of, write_config, write_pairs

from jobs.build import build_chain
from jobs.commands.options import runner_values
from jobs.config import PipelineConfig
from jobs.pipeline import run_pipeline
from jobs.run_manifest import read_run_manifest
from schemas.config import parse_config, read_yaml
from schemas.errors import BudgetError, ConfigError, EditmillError, InputError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


def run(path: Path) -> Any:
    return run_pipeline(parse_config(PipelineConfig, read_yaml(path), path.name), where=path.name)


def test_run_packs_counts_and_does_nothing_twice(pairs: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "whole.yaml", pairs)
    done = editmill("run", config)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "whole"
    manifest = read_run_manifest(folder)
    assert [stage.name for stage in manifest.stages] == ["edit_pairs_jsonl", "masks"] and manifest.pack is not None
    assert manifest.stages[0].rows_in == 12
    rejected = sum(sum(stage.rejected.values()) for stage in (*manifest.stages, manifest.pack))
    assert manifest.pack.kept + rejected == 12 and manifest.pack.kept == 8
    outcomes = pa.concat_tables([pq.read_table(path) for path in sorted((folder / "outcomes").iterdir())])
    assert outcomes.num_rows == rejected
    assert yaml.safe_load((folder / "config.yaml").read_text())["steps"][0]["masks"]["parameters"]
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "run_begins" and events[-1]["event"] == "run_ends"

    before = tree(folder, ".")
    again = editmill("run", config)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert tree(folder, ".") == before


def test_commands_in_a_row_give_the_shards_of_the_pipeline(pairs: Path, tmp_path: Path) -> None:
    run(write_config(tmp_path / "whole.yaml", pairs))
    masked = editmill("masks", pairs, "--output", "runs/masked", "--recipe", "seed", cwd=tmp_path)
    assert masked.returncode == 0, masked.stderr
    packed = editmill("pack", "runs/masked", "--output", "shards", "--samples-per-shard", 3, cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    assert tree(tmp_path / "whole" / "shards", ".") == tree(tmp_path / "shards", ".")


def test_a_run_where_nothing_is_kept_says_so(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", count=1)
    done = editmill("masks", pairs, "--output", tmp_path / "masked")
    assert done.returncode == 1 and "nothing was kept" in done.stderr
    assert editmill("masks", pairs, "--output", tmp_path / "masked").returncode == 1
    refused = editmill("pack", tmp_path / "masked", "--output", tmp_path / "shards", cwd=tmp_path)
    assert refused.returncode == 2 and "kept no rows" in refused.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepps": []}, r"stepps.*is not a known key. Did you mean 'steps'\?"),
        ({"steps": [{"maks": {}}]}, r"steps\[0\] = 'maks': is no known step. Did you mean 'masks'\?"),
        ({"steps": [{"masks": {"recipee": "seed"}}]}, r"steps\[0\].masks: recipee.*Did you mean 'recipe'\?"),
        ({"steps": [{"masks": {"recipe": "sead"}}]}, r"sead"),
        ({"steps": []}, r"pack.record = edits needs column 'mask'"),
        ({"steps": [{"local_images": {}}, {"masks": {}}]}, r"steps\[0\].local_images needs column 'url'"),
        ({"pack": {"samples_per_shard": 0}}, r"pack.samples_per_shard = 0"),
        ({"runner": {"workers": 2}}, r"belong to the runner 'ray'"),
        ({"source": {"edit_pairs_jsonl": {"path": "nowhere"}}}, r"'nowhere': does not exist"),
    ],
)
def test_what_is_wrong_is_said_before_a_row_is_read(
    pairs: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = write_config(tmp_path / "wrong.yaml", pairs, **changes)
    with pytest.raises(EditmillError, match=message):
        run(config)
    assert not (tmp_path / "wrong").exists()


def test_a_wrong_call_is_one_line_and_exit_code_two(pairs: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "wrong.yaml", pairs, steps=[{"maks": {}}])
    output = ["--output", tmp_path / "run"]
    for arguments in (
        ["run", config],
        ["masks", tmp_path / "none", *output],
        ["filter", config, *output],
        ["recaption", pairs, *output],
        ["pack", pairs, *output],
    ):
        done = editmill(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert len(lines_of(done)) == 1 and len(done.stderr.strip().splitlines()) == 1


def test_a_changed_pack_replaces_the_runs_own_shards_only(pairs: Path, tmp_path: Path) -> None:
    run(write_config(tmp_path / "run.yaml", pairs))
    run(write_config(tmp_path / "run.yaml", pairs, pack={"samples_per_shard": 5}))
    assert len(list((tmp_path / "run" / "shards" / "webdataset").iterdir())) == 2
    other = {"output": str(tmp_path / "run" / "shards"), "samples_per_shard": 2}
    with pytest.raises(EditmillError):
        run(write_config(tmp_path / "other.yaml", pairs, pack=other))
    # A run that failed is no source.
    with pytest.raises(BudgetError):
        run(write_config(tmp_path / "failed.yaml", pairs, budget={"reasons": {"unchanged": 0.0}, "least_rows": 1}))
    with pytest.raises(InputError, match="did not finish"):
        run(write_config(tmp_path / "c.yaml", pairs, source={"run_records": {"path": str(tmp_path / "failed")}}))


def test_an_output_that_is_something_else(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        run(write_config(tmp_path / "a.yaml", pairs, output=str(tmp_path / "file")))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"shards": []}')
    with pytest.raises(InputError, match="is of no run"):
        run(write_config(tmp_path / "b.yaml", pairs, output=str(tmp_path / "other")))


def test_config_names() -> None:
    with pytest.raises(ConfigError, match="letters, digits"):
        parse_config(PipelineConfig, {"name": "a/b", "source": {"x": {}}}, "test")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("pipeline-*.yaml")), ids=lambda path: path.stem)
def test_the_example_configs_are_chains(path: Path) -> None:
    config = parse_config(PipelineConfig, read_yaml(path), path.name)
    assert build_chain(config, path.name).steps


def test_options_that_only_ray_has_mean_ray(pairs: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "job.yaml", pairs, runner={"stall_minutes": 3})
    assert editmill("run", config, "--workers", 2, "--check").returncode == 0
    assert editmill("run", config, "--address", "auto", "--check").returncode == 0
    refused = editmill("run", config, "--workers", 2, "--runner", "in_process", "--check")
    assert refused.returncode == 2 and "belong to the runner 'ray'" in refused.stderr
    assert runner_values(None, None, "auto")["kind"] == "ray"
    assert runner_values(None, None, None)["kind"] == "in_process"


def test_shards_of_other_steps_are_met_before_any_work(pairs: Path, tmp_path: Path) -> None:
    place = {"samples_per_shard": 3, "output": str(tmp_path / "shards")}
    assert editmill("run", write_config(tmp_path / "one.yaml", pairs, pack=place)).returncode == 0
    same = write_config(tmp_path / "two.yaml", pairs, pack=place)
    assert editmill("run", same, "--check").returncode == 0, "the same samples may be packed there again"
    steps = [{"masks": {"recipe": "seed", "parameters": {"threshold": 30}}}]
    for changes in ({"pack": {**place, "samples_per_shard": 4}}, {"pack": place, "steps": steps}):
        other = write_config(tmp_path / "three.yaml", pairs, **changes)
        said = editmill("run", other)
        assert said.returncode == 2 and "holds shards of other samples" in said.stderr
        assert not (tmp_path / "three").exists()


def test_a_cluster_that_is_gone_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.runners.ray_session import check_address

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    for address in ("auto", f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(InputError, match="no Ray cluster answers there"):
            check_address(address)
    monkeypatch.delenv("RAY_ADDRESS")
    check_address("auto")
