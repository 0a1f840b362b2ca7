"""Which files a run's frozen weights come from, by content: a checkpoint holds none of them, and must name them.

A file is known by its SHA-256 over all its bytes. That is taken once, beside the first steps, and again only when a
file's size or time of change is another one than when it was taken; so starting again costs no reading. What would go
unseen is a file changed with its size and time put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from schemas.atomic import sha256_of
from schemas.errors import InputError
from unified_model.card import read_card
from unified_model.checkpoint import checkpoint_folder, lineage_of

Marks = dict[str, dict[str, Any]]
"""Part of the model and path in it ("vlm/model.safetensors") -> size in bytes, modified (nanoseconds), sha256."""

_READERS = 4
"""Files read at the same time."""


def model_files(model: str) -> dict[str, Path]:
    """The files of every part that a run over `model` loads.

    Raises:
        InputError: the folder or its base is missing.
    """
    origin = lineage_of(checkpoint_folder(model))
    places = {part: origin.whole / part for part in read_card(origin.whole).parts}
    places |= {"conditioner": origin.conditioner / "conditioner", "transformer": origin.transformer / "transformer"}
    # Adapters that are folded in when the model is loaded.
    places |= {f"adapter-{number}": folder / "adapter" for number, folder in enumerate(origin.adapters)}
    return {
        f"{part}/{path.relative_to(place).as_posix()}": path
        for part, place in places.items()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


class ModelMarks:
    """Takes the marks of a model's files, in the background."""

    def __init__(self, model: str, known: Marks | None = None) -> None:
        """`known`: from an earlier checkpoint; the content must still be that, which is looked at here and now.

        Raises:
            InputError: a file's content is another one, or a file came or went.
        """
        files = model_files(model)
        if known is not None:
            _check(model, files, known)
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="model-files")
        self._marks = {name: self._pool.submit(mark_of, path, (known or {}).get(name)) for name, path in files.items()}

    def result(self) -> Marks:
        """The marks, waiting for what is still being read.

        Raises:
            InputError: a file cannot be read.
        """
        try:
            return {name: future.result() for name, future in self._marks.items()}
        except OSError as error:
            raise InputError(
                "model", str(error.filename), f"cannot be read ({error.strerror})", "Look at it."
            ) from error
        finally:
            self._pool.shutdown(wait=False)


def _check(model: str, files: Mapping[str, Path], known: Marks) -> None:
    odd = sorted(set(files) ^ set(known))
    changed = sorted(name for name, path in files.items() if name in known and differs(path, known[name]))
    if odd or changed:
        name = (changed or odd)[0]
        what = "has another content" if changed else ("is new" if name in files else "is gone")
        raise InputError(
            "model",
            model,
            f"its file {name} {what} since the run began, and checkpoints hold no frozen weights",
            "Put the model back as it was, or take another output folder.",
        )


def differs(path: Path, mark: Mapping[str, Any]) -> bool:
    """Whether a file's content is another than when its mark was taken."""
    status = path.stat()
    if status.st_size != mark["size"]:
        return True
    return status.st_mtime_ns != mark["modified"] and sha256_of(path) != mark["sha256"]


def mark_of(path: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A file's mark; `known` of a file that was checked spares reading it again."""
    status = path.stat()
    digest = known["sha256"] if known is not None else sha256_of(path)
    return {"size": status.st_size, "modified": status.st_mtime_ns, "sha256": digest}
