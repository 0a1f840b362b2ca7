"""Edits in packed shards: references and instruction of every sample; its target is not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.editing.rows import EditRow, EditRows, Sizing
from pipelines.shards.read import PackedFolder, open_packed
from schemas.errors import InputError, RowRejected, ShardError
from schemas.images import decode_image
from schemas.records import EDIT_SAMPLE
from unified_model.requests import EditRequest


@dataclass(frozen=True)
class PackedRow(EditRow):
    """A sample, by its place in the index."""

    name: str
    identity: str
    packed: PackedFolder
    position: int

    def request(self, default: Sizing) -> EditRequest:
        """Reads the sample out of its shard."""
        try:
            row = self.packed.sample_at(self.position)
        except ShardError as error:
            raise RowRejected("sample_unreadable", str(error)) from error
        images = [decode_image(reference["bytes"]) for reference in row["references"]]
        return EditRequest(row["instruction"], images, default.seed, default.height, default.width)


class PackedRows(EditRows):
    """The samples of a packed folder, in the order of its index.

    Raises:
        InputError: it holds no edits.
        ShardError: its manifest or index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._packed = open_packed(folder)
        if self._packed.record is not EDIT_SAMPLE:
            raise InputError("--shards", str(folder), "holds captioned images, no edits", "Give packed edit samples.")

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[EditRow]:
        for position, key in enumerate(self._packed.index["key"].to_pylist()):
            # A key is made from the content, so it tells whether that changed.
            yield PackedRow(f"{key}.png", key, self._packed, position)
