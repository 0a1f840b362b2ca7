"""Where a component is loaded from: a local folder, a hub name, or a subfolder of a hub name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import InputError


@dataclass(frozen=True)
class Located:
    """A component's place, as `from_pretrained(name, **subfolder)` takes it."""

    name: str
    subfolder: dict[str, Any]


def locate(source: str | Path) -> Located:
    """Tell a local folder from a hub name.

    Args:
        source: a folder, or "owner/name", or "owner/name/subfolder" ("black-forest-labs/FLUX.1-dev/vae").

    Raises:
        InputError: neither a folder nor a hub name.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return Located(str(path), {})
    parts = str(source).split("/")
    looks_local = isinstance(source, Path) or parts[0] in ("", ".", "..", "~") or len(parts) < 2
    if looks_local or not all(parts):
        raise InputError("model component", str(source), "is no folder, and no hub name either", "Check the path.")
    return Located("/".join(parts[:2]), {"subfolder": "/".join(parts[2:])} if len(parts) > 2 else {})
