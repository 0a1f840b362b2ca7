"""What a process elsewhere says, brought here through a file that both see."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TextIO

POLL_S = 0.2


@contextmanager
def followed(path: Path, say: Callable[[str], object]) -> Iterator[None]:
    """While the block runs, hand what is added to the file at `path` to `say`, whole lines at a time."""
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(path, say, done), daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _follow(path: Path, say: Callable[[str], object], done: threading.Event) -> None:
    place = path.stat().st_size if path.exists() else 0
    last = False
    while not last:
        last = done.wait(POLL_S)
        if not path.exists():
            continue
        with path.open("rb") as stream:
            stream.seek(place)
            new = stream.read()
        whole = len(new) if last else new.rfind(b"\n") + 1
        place += whole
        if whole:
            say(new[:whole].decode(errors="replace"))


@contextmanager
def heard(path: Path) -> Iterator[None]:
    """While the block runs, what this process writes to standard error goes to the end of the file at `path` too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file, redirect_stderr(_Both(sys.stderr, file)):
        yield


class _Both:
    """Enough of a text stream for printing."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams
        self.encoding = "utf-8"

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def isatty(self) -> bool:
        return False
