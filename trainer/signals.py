"""Requests to stop: a signal, a file in the run's folder, a launcher that is gone. The run saves and ends well."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.distributed import RENDEZVOUS

STOP_FILE = "stop"
"""`touch RUN/stop` asks a run to stop where no signal reaches its ranks, as under Ray or the deepspeed launcher, which
kills them soon after it was signalled itself."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Slurm and Kubernetes announce an end by SIGTERM; SIGUSR1 is what `#SBATCH --signal` usually names."""


@contextmanager
def stop_requests(run: Path) -> Iterator[Callable[[], bool]]:
    """Inside, the signals end nothing: the callable says whether the run was asked to stop, on this rank."""
    asked: list[int] = []
    # Ray Train runs the loop in a thread, which may not set handlers; there the file serves.
    own = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, lambda number, frame: asked.append(number)) for number in own}
    parent = os.getppid()
    try:
        # A rank whose launcher was killed would train on unseen.
        yield lambda: bool(asked) or (run / STOP_FILE).exists() or (RENDEZVOUS in os.environ and os.getppid() != parent)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
