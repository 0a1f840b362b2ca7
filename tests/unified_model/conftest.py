from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unified_model.model import UnifiedEditModel
from unified_model.tiny import build_tiny


@pytest.fixture(scope="session")
def tiny() -> UnifiedEditModel:
    return build_tiny(seed=0)


@pytest.fixture(scope="session")
def tiny_folder(tiny: UnifiedEditModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save_pretrained(folder)
    return folder


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return [picture(64, 64, 0), picture(96, 64, 1), picture(50, 130, 2)]
