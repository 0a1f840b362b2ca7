"""`log.jsonl`: what happened in a run, one JSON object a line, for machines."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.atomic import canonical_json, writing


class EventLog:
    """Appends events to a file; a line is written whole or, at a crash, is the last and cut.

    Args:
        path: the file; made if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """Append `{"event": ..., "time": ..., **values}`; the time is UTC, ISO 8601."""
        line = canonical_json({"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **values})
        with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
