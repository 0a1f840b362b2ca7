"""Judging, deduplicating and the look for leaks as commands, one after the other over the same pairs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.build import build_chain
from jobs.chain import over_partitions
from jobs.cli import app
from jobs.config import PipelineConfig
from jobs.planning.probe import probe
from jobs.run_manifest import read_run_manifest
from schemas.config import parse_config
from schemas.errors import ConfigError

sys.path.append(str(Path(__file__).parents[1] / "pipelines"))

from caption_server import serve

REPLY = "Brief reasoning: as asked.\nScore 1: 5\nScore 2: 5"


def photograph(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


def write_pairs(folder: Path, seeds: list[int], suffix: str = "png", size: int = 96) -> Path:
    folder.mkdir()
    lines = []
    for place, seed in enumerate(seeds):
        before = photograph(seed).resize((size, size), Image.Resampling.BICUBIC)
        after = before.copy()
        after.paste((250, 20, 20), (0, 0, size // 2, size // 2))
        before.save(folder / f"{place}-before.{suffix}")
        after.save(folder / f"{place}-after.{suffix}")
        names = {"reference": f"{place}-before.{suffix}", "target": f"{place}-after.{suffix}"}
        lines.append({**names, "instruction": f"make the corner red, {seed}"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "pairs.jsonl"


def editmill(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def reasons(folder: Path) -> dict[str, int]:
    return read_run_manifest(folder).stages[-1].rejected


def test_pairs_are_judged_deduplicated_and_held_against_a_benchmark(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", [1, 2, 3, 4, 3])
    (tmp_path / "pairs" / "4-before.png").unlink()
    photograph(3).save(tmp_path / "pairs" / "4-before.png", compress_level=1)
    bad = (tmp_path / "pairs" / "0-after.png").read_bytes()
    with serve(good=REPLY, texts={bad: "Score 1: 2\nScore 2: 5"}) as endpoint:
        place = ("--endpoint", endpoint.url, "--model", "tiny-vlm")
        editmill("judge", pairs, "--output", tmp_path / "judged", *place, "--least", "instruction_following=3")
    assert reasons(tmp_path / "judged") == {"instruction_following_too_low": 1}
    editmill("deduplicate", tmp_path / "judged", "--output", tmp_path / "unique", "--prefer-score", "naturalness")
    assert reasons(tmp_path / "unique") == {"near_duplicate": 1}
    bench = write_pairs(tmp_path / "bench", [9, 2], suffix="jpg", size=64)
    editmill("leakage", tmp_path / "unique", "--benchmark", bench, "--output", tmp_path / "clean")
    assert reasons(tmp_path / "clean") == {"benchmark_leakage": 1}
    kept = pa.concat_tables([pq.read_table(path) for path in (tmp_path / "clean" / "records").iterdir()])
    assert sorted(kept["instruction"].to_pylist()) == [f"make the corner red, {seed}" for seed in (3, 4)]
    assert dict(kept["judge_scores"].to_pylist()[0]) == {"instruction_following": 5.0, "naturalness": 5.0}
    again = editmill("leakage", tmp_path / "unique", "--benchmark", bench, "--output", tmp_path / "clean")
    assert again.count("nothing to do") == 2


def test_any_step_can_be_run_by_its_name(tmp_path: Path) -> None:
    write_pairs(tmp_path / "small", [1, 2], size=64)
    call = ["step", "pair_bounds", str(tmp_path / "small"), "--output", str(tmp_path / "bounded"), "--set"]
    assert CliRunner().invoke(app, [*call, "min_side=96"]).exit_code == 1, "nothing was kept"
    assert reasons(tmp_path / "bounded") == {"target_side_too_short": 2}
    editmill("step", "perceptual_hash", tmp_path / "small", "--output", tmp_path / "hashed")
    editmill("step", "pair_bounds", tmp_path / "hashed", "--output", tmp_path / "kept", "--set", "min_side=64")
    [records] = (tmp_path / "kept" / "records").iterdir()
    assert pq.read_table(records).num_rows == 2 and "image_hashes" in pq.read_schema(records).names
    records_of = ("--source", "image_records_parquet", "--output", tmp_path / "none")
    with pytest.raises(ConfigError, match="needs column 'references'"):
        editmill("step", "pair_bounds", tmp_path / "small", *records_of, "--set", "min_side=64")
    with pytest.raises(ConfigError, match="Did you mean 'pair_bounds'"):
        editmill("step", "pair_bound", tmp_path / "small", "--output", tmp_path / "none")


def test_a_plan_decides_over_the_rows_it_tries(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", [1, 2, 2])
    values = {
        "name": "planned",
        "output": tmp_path / "run",
        "source": {"edit_pairs_jsonl": {"path": str(pairs)}},
        "steps": ["perceptual_hash", "deduplicate"],
    }
    chain = build_chain(parse_config(PipelineConfig, values, "test"), "test")
    partitions = chain.plan.source.partitions()
    tried = probe(over_partitions(chain, partitions), partitions, 10, 0, 0.0)
    assert [stage.kept for stage in tried.stages] == [2, 2, 2], "the copy of a pair repeats its key in the source"


@pytest.mark.parametrize("arguments", [[], ["--endpoint", "http://localhost:1/v1"]])
def test_a_judge_must_be_named(tmp_path: Path, arguments: list[str]) -> None:
    pairs = write_pairs(tmp_path / "pairs", [1])
    result = CliRunner().invoke(app, ["judge", str(pairs), "--output", str(tmp_path / "run"), *arguments])
    assert result.exception is not None and "must be given" in str(result.exception)
