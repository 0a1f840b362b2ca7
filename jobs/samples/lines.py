"""Samples listed in JSONL files, with their images in files beside them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.samples.base import Row, Samples, Unreadable
from pipelines.source import Partition
from pipelines.sources.edit_pairs_jsonl import EditPairsJsonl
from pipelines.sources.jsonl_lines import jsonl_files, line_places


class LineSamples(Samples):
    """Pairs as the source `edit_pairs_jsonl` reads them. Of a line only its place is kept."""

    def __init__(self, name: str, source: EditPairsJsonl) -> None:
        self.name = name
        self._source = source
        # The source looks at the first lines, and says what is missing.
        source.partitions()
        self._files = jsonl_files(Path(source.config.path))
        # (file, first byte, byte after the last) of each line, one after the other.
        self._places = array("q")
        for number, file in enumerate(self._files):
            for start, stop in line_places(file):
                self._places.extend((number, start, stop))

    def __len__(self) -> int:
        return len(self._places) // 3

    def rows(self, positions: Sequence[int]) -> Iterator[Row | Unreadable]:
        """A line at a time."""
        for position in positions:
            file, start, stop = self._places[3 * position : 3 * position + 3]
            path = self._files[file]
            # Read once and never committed, so that the partition's name does not matter.
            result = self._source.read(Partition("looked-at", str(path), start, stop))
            yield from result.kept.to_pylist()
            for sentence in result.rejected["sentence"].to_pylist():
                yield Unreadable(path.name, sentence)
