"""A stage of the demo makes one folder, whole or not at all, and is not done twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schemas.atomic import sync_folder, write_json

STAMP = "complete.json"


def once(folder: Path, identity: Mapping[str, Any], make: Callable[[Path], None]) -> bool:
    """Let `make` fill `folder`, unless it was filled before under the same identity.

    The folder is filled aside and renamed, so it is never found half done.

    Args:
        identity: JSON-able; everything that decides what `make` writes.
        make: called with the (empty) folder to fill; must not write its path into what it writes.

    Returns:
        True where the work was done now, False where it was found done.
    """
    stamp = folder / STAMP
    if stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == json.loads(json.dumps(identity)):
        return False
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    make(aside)
    write_json(aside / STAMP, dict(identity))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    sync_folder(folder.parent)
    return True
