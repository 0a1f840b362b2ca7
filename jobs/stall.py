"""Noticing that a run stands still: a step that hangs raises nothing, so only time tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StallWatch:
    """Says so when nothing moved for a while, and again each time the silence has doubled.

    Args:
        limit_s: seconds of silence until it is told of, > 0.
        tell: called with the seconds of silence, from a thread of its own.
    """

    def __init__(self, limit_s: float, tell: Callable[[float], None]) -> None:
        self._limit, self._tell = limit_s, tell
        self._moved = time.monotonic()
        self._next = limit_s
        self._lock = threading.Lock()

    def moved(self) -> None:
        """Something was done."""
        with self._lock:
            self._moved, self._next = time.monotonic(), self._limit

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch inside the block."""
        self.moved()
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(min(5.0, self._limit / 4)):
            with self._lock:
                silence = time.monotonic() - self._moved
                is_due = silence >= self._next
                if is_due:
                    self._next *= 2
            if is_due:
                self._tell(silence)
