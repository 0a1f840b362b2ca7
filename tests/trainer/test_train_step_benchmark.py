"""benchmarks/train_step.py as it runs at release size, with a small model in the place of the large one."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from unified_model.skeleton import Skeleton, release_skeleton
from unified_model.tiny import build_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

CALL = ["train_step.py", "--size", "release", "--steps", "1", "--warmup", "1", "--gpu", "H200", "--accumulation", "2"]


@pytest.fixture
def benchmark_script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose release-size model is a tiny one on the CPU."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    script = importlib.import_module("train_step")

    def small(dtype: torch.dtype, device: str = "meta") -> Skeleton:
        if device == "meta":
            return release_skeleton(dtype)
        tiny = build_tiny()
        return Skeleton(*(torch.nn.Module.to(part, dtype) for part in (tiny.tower, tiny.core, tiny.codec)))

    monkeypatch.setattr(script, "release_skeleton", small)
    return script


def test_both_ways_step_alike_without_a_processor(
    benchmark_script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(benchmark_script.SIDE, "release", 64)
    results: dict[str, dict[str, Any]] = {}
    for way in ("plain", "editmill"):
        monkeypatch.setattr(sys, "argv", [*CALL, "--way", way])
        benchmark_script.main()
        results[way] = json.loads(capsys.readouterr().out.splitlines()[-1])
    benchmark_script.check_same({name: result["loss"] for name, result in results.items()}, "bfloat16")
    assert results["plain"]["samples"] == results["editmill"]["samples"] == 2
    assert results["plain"]["model_flops"] == results["editmill"]["model_flops"] > 0


def test_the_table_has_rates_and_the_estimate_at_release_size(
    benchmark_script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", CALL)
    ours = {
        "best": 0.25, "middle": 0.26, "samples": 2, "model_flops": 1e14, "hardware_flops": 1.1e14,
        "memory": 130 * 2**30, "on_gpu": True,
    }  # fmt: skip
    benchmark_script.show(benchmark_script._options(), {"editmill": ours, "plain": None})
    told = capsys.readouterr().out
    assert "50.6%" in told and "out of memory" in told and "GiB estimated" in told
