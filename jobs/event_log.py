"""`log.jsonl`: what happened in a run, one JSON object a line, for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.atomic import canonical_json, writing


class EventLog:
    """Appends events to a file; a crash may leave a line cut, which the next write ends.

    Args:
        path: the file; made if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """Append `{"event": ..., "time": ..., **values}`; the time is UTC, ISO 8601."""
        line = canonical_json({"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **values})
        with writing(self.path), self.path.open("a+b") as stream:
            size = stream.tell()
            stream.seek(max(0, size - 1))
            # What a crash cut must not take the next event with it.
            cut = "\n" if size and stream.read(1) != b"\n" else ""
            stream.write(f"{cut}{line}\n".encode())


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log in order; lines that a crash cut are left out. A log that is not there has none."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            yield event
