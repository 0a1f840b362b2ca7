"""How fast an endpoint may be asked: so many requests and tokens a minute, over all workers that share a folder.

Requests are spaced evenly. Tokens are only known when a reply is there: they then keep the next request away for as
long as they are worth, so that the mean holds while what is in flight may exceed it. The state is two points in time in
a small file under a lock; clocks of several machines should agree to within a second.
"""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.atomic import writing

LONGEST_AHEAD_S = 3600.0
"""A point in time further ahead was written by a clock gone wrong, and is brought back to this."""


@dataclass(frozen=True)
class Pace:
    """When the next request may go out.

    Args:
        request: seconds since the epoch, as far as requests go.
        tokens: the same, as far as tokens go.
    """

    request: float = 0.0
    tokens: float = 0.0

    def bounded(self, now: float) -> Pace:
        """Without points too far ahead of `now`."""
        return Pace(min(self.request, now + LONGEST_AHEAD_S), min(self.tokens, now + LONGEST_AHEAD_S))

    def admitted(self, now: float, requests_per_minute: float | None) -> tuple[float, Pace]:
        """Seconds that a request must wait, and the pace once it is taken."""
        slot = max(now, self.request, self.tokens)
        interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
        return slot - now, replace(self, request=slot + interval)

    def charged(self, now: float, tokens: int, tokens_per_minute: float) -> Pace:
        """The pace once `tokens` were used."""
        return replace(self, tokens=max(now, self.tokens) + tokens * 60.0 / tokens_per_minute)


class Pacer:
    """Holds workers to a pace.

    Args:
        file: the state that they share; None paces this process only.
        requests_per_minute, tokens_per_minute: > 0, or None for no bound.
    """

    def __init__(
        self,
        file: Path | None,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file, self._clock = file, clock
        self._requests, self._tokens = requests_per_minute, tokens_per_minute
        self._pace = Pace()
        self._lock = threading.Lock()

    def admit(self) -> float:
        """Take the next place; returns the seconds to wait for it.

        Raises:
            OutputError: the shared state cannot be written.
        """
        if self._requests is None and self._tokens is None:
            return 0.0
        with self._shared():
            wait, self._pace = self._pace.admitted(self._clock(), self._requests)
            return wait

    def charge(self, tokens: int) -> None:
        """Tell of tokens used.

        Raises:
            OutputError: the shared state cannot be written.
        """
        if self._tokens is not None:
            with self._shared():
                self._pace = self._pace.charged(self._clock(), tokens, self._tokens)

    @contextmanager
    def _shared(self) -> Iterator[None]:
        with self._lock:
            if self._file is None:
                yield
                return
            with writing(self._file):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a+") as stream:
                    # The lock ends with the process, however that ends.
                    fcntl.flock(stream, fcntl.LOCK_EX)
                    stream.seek(0)
                    self._pace = _parse(stream.read()).bounded(self._clock())
                    yield
                    stream.truncate(0)
                    stream.write(json.dumps([self._pace.request, self._pace.tokens]))


def _parse(text: str) -> Pace:
    try:
        request, tokens = json.loads(text)
        return Pace(float(request), float(tokens))
    except (ValueError, TypeError):
        return Pace()
