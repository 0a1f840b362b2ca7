"""What the demo does, as data: its folders, its two pipelines, its sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jobs.demo.collection import METADATA_NAME
from jobs.demo.pairs import PAIRS_NAME

HELD_OUT = "rocket"
"""The photograph that no pair is made of and no model sees before it is edited."""
LONGEST_SIDE = 640
"""Photographs are shrunk to this before edits are made, in pixels, as public sets are."""
RECIPES = ("robust", "seed", "uniworld")
"""Mask recipes held against the known regions; the shards are made with `RECIPE`."""
RECIPE = "robust"


@dataclass(frozen=True)
class DemoPlan:
    """Folders and settings of one demo.

    Args:
        folder: everything is written below it.
        runner, workers: where the data part runs; changes no byte of the shards.
        train_steps: optimizer steps.
        seed: of edits, weights, order, noise.
    """

    folder: Path
    runner: Literal["in_process", "ray"]
    workers: int
    train_steps: int
    seed: int

    @property
    def collection(self) -> Path:
        """The LAION-style collection."""
        return self.folder / "collection"

    @property
    def pairs(self) -> Path:
        """The before/after pairs."""
        return self.folder / "pairs"

    @property
    def model(self) -> Path:
        """The model before training."""
        return self.folder / "model"

    @property
    def training(self) -> Path:
        """The training run."""
        return self.folder / "train"

    @property
    def image_shards(self) -> Path:
        """Image-caption shards."""
        return self.folder / "image-shards"

    @property
    def edit_shards(self) -> Path:
        """Edit shards."""
        return self.folder / "edit-shards"

    def image_pipeline(self) -> dict[str, Any]:
        """Filter, read, recaption, pack."""
        return {
            "name": "demo-images",
            "output": self.folder / "images",
            "source": {
                "laion_parquet": {
                    "paths": [str(self.collection / METADATA_NAME)],
                    "min_aesthetic": 4.5,
                    "min_side": 300,
                    "max_aspect": 2.0,
                    "missing": "reject",
                    "outcomes": "rows",
                }
            },
            "steps": [
                {"local_images": {"root": str(self.collection)}},
                {
                    "recaption": {
                        "backend": {"kind": "transformers", "model": str(self.model / "vlm"), "device": "cpu"},
                        "prompt": "caption_long.v1",
                        "max_new_tokens": 64,
                    }
                },
            ],
            "pack": {"record": "images", "output": self.image_shards, "overwrite": True},
            "runner": self._runner(),
        }

    def edit_pipeline(self) -> dict[str, Any]:
        """Read pairs, make masks, pack. Small partitions and shards, so that a demo has several of both."""
        return {
            "name": "demo-edits",
            "output": self.folder / "edits",
            "source": {"edit_pairs_jsonl": {"path": str(self.pairs / PAIRS_NAME), "rows_per_partition": 10}},
            "steps": [{"masks": {"recipe": RECIPE}}],
            "pack": {"record": "edits", "output": self.edit_shards, "samples_per_shard": 16, "overwrite": True},
            "runner": self._runner(),
        }

    def _runner(self) -> dict[str, Any]:
        if self.runner == "in_process":
            return {"kind": "in_process"}
        return {"kind": "ray", "workers": self.workers, "object_store_mib": 200}
