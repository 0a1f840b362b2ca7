"""Where a component is loaded from: a local folder, a hub name, or a subfolder of a hub name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.atomic import write_json
from schemas.errors import InputError

ORIGIN_KEYS = {"config.json": ("_name_or_path",), "tokenizer_config.json": ("is_local", "local_files_only")}
"""What the libraries write into a saved config about where the component was loaded from."""


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


def part_of(source: str, name: str) -> str:
    """A subfolder of a local folder or of a hub name, as `locate` takes it.

    Raises:
        InputError: the folder is here, and holds no such subfolder.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return f"{source}/{name}"
    if not (folder / name).is_dir():
        raise InputError("model component", source, f"holds no {name}/", "Download the whole of it.")
    return str(folder / name)


def load_component(component: Any, source: str | Path | Located, **keywords: Any) -> Any:
    """`component.from_pretrained` of what stands at `source`.

    Raises:
        InputError: neither a folder nor a hub name, or the library finds no such component there.
    """
    found = source if isinstance(source, Located) else locate(source)
    try:
        return component.from_pretrained(found.name, **found.subfolder, **keywords)
    except OSError as error:
        raise InputError(
            "model component",
            "/".join((found.name, *found.subfolder.values())),
            f"cannot be loaded as {component.__name__} ({error})",
            "Check the name, and for a hub name the network and your access to it.",
        ) from error


def save_tokenizer(tokenizer: Any, folder: str | Path) -> None:
    """Save a tokenizer as it was loaded: its last call's padding and length would come back as settings otherwise."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(str(folder))


def forget_origin(folder: Path) -> None:
    """Drop from a saved component's configs where it was loaded from, so that equal components have equal bytes."""
    for name, keys in ORIGIN_KEYS.items():
        path = folder / name
        if not path.is_file():
            continue
        values = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: value for key, value in values.items() if key not in keys}
        if kept != values:
            write_json(path, kept)
