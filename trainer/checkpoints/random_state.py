"""The random states of a rank: Python's, numpy's, torch's and its GPU's."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.distributed import Ranks


def save_random_state(path: Path, ranks: Ranks) -> None:
    """Write this rank's states. Raises OSError: it cannot be written."""
    with path.open("wb") as stream:
        torch.save(_state(ranks), stream)


def load_random_state(path: Path, ranks: Ranks) -> None:
    """Bring them back. Raises OSError: the file is missing."""
    _restore(torch.load(path, weights_only=True), ranks)


def _state(ranks: Ranks) -> dict[str, Any]:
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(ranks.device) if ranks.device.type == "cuda" else None,
    }


def _restore(state: dict[str, Any], ranks: Ranks) -> None:
    kind, keys, position, has_gauss, cached = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and ranks.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], ranks.device)
