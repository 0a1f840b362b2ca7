"""Ranks of one machine share the weights' files in memory until ZeRO 3 has cut them into pieces, and each has a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from schemas.errors import ConfigError
from trainer import distributed
from unified_model.model import UnifiedEditModel


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mappings are listed by Linux only")
def test_weights_in_the_files_own_dtype_are_no_rank_s_own_memory(tiny_model: Path) -> None:
    model = UnifiedEditModel.from_pretrained(tiny_model)
    mapped = [
        range(int(first, 16), int(last, 16))
        for first, last in re.findall(r"^(\w+)-(\w+) .*\.safetensors$", Path("/proc/self/maps").read_text(), re.M)
    ]
    for part in (model.core.denoiser, model.tower):
        weights = list(part.parameters())
        shared = sum(value.numel() for value in weights if any(value.data_ptr() in one for one in mapped))
        assert shared > 0.9 * sum(value.numel() for value in weights)


def test_a_rank_that_does_not_see_its_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under Slurm's --gpus-per-task, which shows each process one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(ConfigError, match="LOCAL_RANK = 3: must be less than the 1 GPUs"):
        distributed.start()
