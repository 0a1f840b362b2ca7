"""Samples of a packed folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.samples.base import Row, Samples
from pipelines.shards.read import PackedFolder, open_packed
from schemas.records import EDIT_SAMPLE


class PackedSamples(Samples):
    """What the manifest and the index name."""

    def __init__(self, folder: Path) -> None:
        self._packed: PackedFolder = open_packed(folder)
        self.name = folder.resolve().name
        if self._packed.record is not EDIT_SAMPLE:
            self.kind = "images"
            self.caption_order = self._packed.manifest.config["caption_order"]

    def __len__(self) -> int:
        return len(self._packed)

    def rows(self, positions: Sequence[int]) -> Iterator[Row]:
        """Each read by itself, from the place that the index names."""
        return (self._packed.sample_at(position) for position in positions)

    def keys(self) -> list[str] | None:
        """As the index has them."""
        keys: list[str] = self._packed.index["key"].to_pylist()
        return keys

    def statuses(self) -> Sequence[str | None]:
        """As the index has them."""
        statuses: list[str | None] = self._packed.index["mask_status"].to_pylist()
        return statuses

    def fractions(self) -> Sequence[float | None]:
        """As the index has them."""
        fractions: list[float | None] = self._packed.index["edited_fraction"].to_pylist()
        return fractions
