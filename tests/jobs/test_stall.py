"""A run that stands still is noticed, and one that moves is not."""

from __future__ import annotations

import json
import time
from pathlib import Path

from pair_files import editmill, write_config, write_pairs

from jobs.stall import StallWatch


def test_silence_is_told_of_each_time_it_has_doubled() -> None:
    told: list[float] = []
    watch = StallWatch(0.1, told.append)
    with watch.watching():
        time.sleep(0.9)
        silent = list(told)
        for _ in range(20):
            watch.moved()
            time.sleep(0.02)
    assert 2 <= len(silent) <= 4  # 0.1, 0.2, 0.4, 0.8 s
    assert told == silent
    for seconds, least in zip(silent, (0.1, 0.2, 0.4, 0.8), strict=False):
        assert seconds >= least


def test_a_stalled_run_says_so_in_its_log_and_goes_on(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", count=4, side=96)
    config = write_config(tmp_path / "job.yaml", pairs, runner={"stall_minutes": 1e-5})
    ended = editmill("run", config)
    assert ended.returncode == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "job" / "log.jsonl").read_text().splitlines()]
    assert "stalled" in events
    assert events[-1] == "run_ends"
    assert "nothing was committed for" in ended.stderr
