"""What became of each row: `outcomes.jsonl`, appended to while the batch runs, and put in order at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.atomic import write_bytes, write_json, writing
from schemas.errors import ConfigError

OUTCOMES = "outcomes.jsonl"
SETTINGS = "settings.json"

EDITED, REJECTED = "edited", "rejected"


@dataclass(frozen=True)
class EditOutcome:
    """One line of the file.

    Args:
        row: number in the batch, from 1.
        output: file name of the edited image, also where there is none.
        outcome: "edited" or "rejected".
        reason: snake_case and stable; None of an edited row.
        sentence: for people; None of an edited row.
        seed, height, width: the edited image's own; None of a rejected row.
        identity: of what was edited (`EditRow.identity`).
    """

    row: int
    output: str
    outcome: str
    identity: str
    reason: str | None = None
    sentence: str | None = None
    seed: int | None = None
    height: int | None = None
    width: int | None = None


class BatchRecord:
    """The outcomes in an output folder.

    Args:
        folder: made where it is missing.
        settings: everything but the rows that decides the images.

    Raises:
        ConfigError: images were made there with other settings.
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        _agree(folder / SETTINGS, settings)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SETTINGS, dict(settings))
        self._before = {one.output: one for one in _read(folder / OUTCOMES) if one.outcome == EDITED}
        with writing(folder / OUTCOMES):
            self._stream = (folder / OUTCOMES).open("ab")

    def edited_before(self, output: str, identity: str) -> EditOutcome | None:
        """What was noted of a row whose image stands there already, made of the same words and images; or None."""
        known = self._before.get(output)
        stands = known is not None and known.identity == identity and (self._folder / output).is_file()
        return known if stands else None

    def note(self, outcome: EditOutcome) -> None:
        """Append a line. A kill may leave half of it, which a reader passes over."""
        with writing(self._folder / OUTCOMES):
            self._stream.write(b"\n" + _line(outcome))
            self._stream.flush()

    def close(self, outcomes: Iterable[EditOutcome]) -> None:
        """Put exactly these outcomes, in the order of their rows, in place of what was appended."""
        self._stream.close()
        ordered = sorted(outcomes, key=lambda one: one.row)
        write_bytes(self._folder / OUTCOMES, b"".join(_line(one) for one in ordered))


def _line(outcome: EditOutcome) -> bytes:
    return json.dumps(asdict(outcome), ensure_ascii=False).encode() + b"\n"


def _read(path: Path) -> list[EditOutcome]:
    found = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            found.append(EditOutcome(**json.loads(line)))
        except (ValueError, TypeError):
            # Half a line, or an empty one: its row is simply done again.
            continue
    return found


def _agree(path: Path, settings: Mapping[str, Any]) -> None:
    if not path.is_file():
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        before = {}
    for name in dict(settings) | before:
        if before.get(name) != settings.get(name):
            raise ConfigError(
                name.replace("_", " "),
                settings.get(name),
                f"was {before.get(name)!r} when the images in {path.parent} were made",
                "Take another --output folder, or the settings of then.",
            )
