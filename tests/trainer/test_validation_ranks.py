"""Validation on two processes: the figures of one, with samples that do not divide by two, sharded or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from training_data import changed, config_for, edit_row, pack_rows

from trainer.config import TrainConfig
from trainer.distributed import RENDEZVOUS
from trainer.measures.throughput import MEASURED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

TIMED = (*MEASURED, "seconds")


def lines(config: TrainConfig, name: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (Path(config.output) / name).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMED} for line in found]


def loss_file(config: TrainConfig, step: int) -> Path:
    return Path(config.output) / "validation" / f"step-{step:06d}" / "loss.parquet"


def run_ranks(folder: Path, runs: list[TrainConfig], world: int) -> None:
    """Run one training after the other on so many processes, each with one thread: the rounding of a sum depends on the
    number of threads."""
    folder.mkdir()
    (folder / "jobs.json").write_text(json.dumps([run.as_json() for run in runs]))
    worker = Path(__file__).with_name("rank_worker.py")
    environment = os.environ | {
        "WORLD_SIZE": str(world), RENDEZVOUS: f"file://{folder / 'rendezvous'}", "OMP_NUM_THREADS": "1"
    }  # fmt: skip
    ranks = [
        subprocess.Popen(
            [sys.executable, str(worker), str(folder / "jobs.json")],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=(folder / f"stderr-{rank}").open("wb"),
        )
        for rank in range(world)
    ]
    try:
        codes = [rank.wait(timeout=500) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    errors = [(folder / f"stderr-{rank}").read_text()[-3000:] for rank in range(world)]
    assert codes == [0] * world, "\n".join(errors)


@pytest.fixture(scope="module")
def runs(tiny_model: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainConfig]:
    """The same run: with and without validation on two ranks, under ZeRO-3 there, and on one rank."""
    folder = tmp_path_factory.mktemp("validation-ranks")
    held_out = pack_rows(folder / "held-out", [edit_row(number) for number in range(400, 403)])
    plain = config_for(
        tiny_model, shards, folder / "plain", steps=2, batch_size=1, engine={"zero_stage": 2}, ema={"decay": 0.5}
    )
    validation = {"shards": [str(held_out)], "every": 2, "at_start": True, "edits": 3, "sampling_steps": 1,
                  "text_guidance": 2.0}  # fmt: skip
    two = changed(plain, output=str(folder / "two"), validation=validation)
    three = changed(two, output=str(folder / "three"), engine={"zero_stage": 3})
    one = changed(two, output=str(folder / "one"), batch_size=2)
    run_ranks(folder / "ranks-2", [plain, two, three], 2)
    run_ranks(folder / "ranks-1", [one], 1)
    return {"plain": plain, "two": two, "three": three, "one": one}


def test_training_on_two_ranks_does_not_notice_validation(runs: dict[str, TrainConfig]) -> None:
    assert lines(runs["two"], "log.jsonl") == lines(runs["plain"], "log.jsonl")


def test_two_ranks_measure_to_the_last_bit_what_one_does(runs: dict[str, TrainConfig]) -> None:
    ours, theirs = (lines(runs[name], "validation.jsonl")[0] for name in ("two", "one"))
    assert ours == theirs and {"raw/loss", "ema/loss", "raw/edit_inside"} <= set(ours)
    assert loss_file(runs["two"], 0).read_bytes() == loss_file(runs["one"], 0).read_bytes()
    folders = [loss_file(runs[name], 0).parent for name in ("two", "one")]
    names = sorted(path.name for path in folders[0].glob("*.png"))
    assert len(names) == 3
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)


def test_the_average_is_measured_alike_wherever_it_is_cut(runs: dict[str, TrainConfig]) -> None:
    last = {name: pq.read_table(loss_file(run, 2)).to_pydict() for name, run in runs.items() if name != "plain"}
    for name in ("two", "three"):
        assert last[name]["key"] == last["one"]["key"] and last[name]["weights"] == last["one"]["weights"]
        assert last[name]["inside_sum"] == pytest.approx(last["one"]["inside_sum"], rel=1e-3)
    figures = lines(runs["three"], "validation.jsonl")[1]
    assert figures["raw/loss"] != figures["ema/loss"]
