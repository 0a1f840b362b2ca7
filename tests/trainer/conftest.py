"""A tiny model and packed samples, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_data import edit_row, pack_rows

from unified_model.tiny import build_tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a whole tiny model."""
    folder = tmp_path_factory.mktemp("model")
    build_tiny().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve samples in three shards."""
    return pack_rows(tmp_path_factory.mktemp("shards") / "packed", [edit_row(number) for number in range(12)])
