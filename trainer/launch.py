"""Several ranks on this machine: one process each, all ended when one fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from schemas.errors import ConfigError
from trainer.distributed import RENDEZVOUS
from trainer.signals import SIGNALS

GRACE = 20.0
"""Seconds that ranks get to end by themselves once one of them failed; then they are killed."""
_POLL = 0.1


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `python -m trainer.train ARGUMENTS` on `processes` ranks.

    SIGTERM and SIGUSR1 are passed on to every rank, which then save and end. The ranks meet at a file, not at a port.

    Returns:
        0 where every rank returned 0, else the first other exit code that was seen.

    Raises:
        ConfigError: there are GPUs, but fewer than processes.
    """
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise ConfigError(
            "processes", processes, f"must be at most {torch.cuda.device_count()}, one a GPU", "Lower it."
        )
    with tempfile.TemporaryDirectory(prefix="editmill-") as folder:
        with _ctrl_c_ignored():
            ranks = [_start(arguments, rank, processes, Path(folder)) for rank in range(processes)]
        try:
            with _pass_on_signals(ranks):
                return _wait(ranks)
        finally:
            for rank in ranks:
                if rank.poll() is None:
                    rank.kill()
                rank.wait()


def _start(arguments: Sequence[str], rank: int, processes: int, folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        RENDEZVOUS: f"file://{folder / 'rendezvous'}",
    }
    # As torchrun does: ranks that each take every core for themselves slow each other down.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return subprocess.Popen([sys.executable, "-m", "trainer.train", *arguments], env=environment)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [rank.poll() for rank in ranks]
        failed = [code for code in codes if code]
        if failed:
            _end(ranks)
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if all(code == 0 for code in codes):
            return 0
        time.sleep(_POLL)


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    # A rank whose neighbour is gone waits at a collective, and would not notice a polite request.
    deadline = time.monotonic() + (GRACE if all(rank.poll() is None or rank.poll() in (1, 2) for rank in ranks) else 0)
    while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
        time.sleep(_POLL)
    for rank in ranks:
        if rank.poll() is None:
            rank.kill()


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Processes started in the block ignore Ctrl-C for ever: this one hears it, and ends them without a word."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _pass_on_signals(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, frame: object) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
