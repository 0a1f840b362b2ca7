"""What Ray's C++ core writes to standard error: kept off the terminal, and told after all where the process crashes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

LINES = 20
"""Last lines that are told."""

_TELL = r"""
trap '' INT TERM HUP
read -r word
if [ "$word" != ended ] && [ -s "$1" ]; then
    echo "editmill ended without a word of its own (crashed, or killed). The last lines from Ray's core, in $1:"
    tail -n "$2" "$1"
else
    rm -f "$1"
fi
"""
"""Waits for the end of its standard input. A crashed process cannot speak: this one does, to the terminal."""


@contextmanager
def core_kept_off_the_terminal() -> Iterator[None]:
    """Keep what Ray's C++ core writes to file descriptor 2 from breaking into the progress bars; Python's standard
    error goes on to where it went.

    It is written to a file instead, which goes at a clean end. Where the process ends in any other way, a child of it
    prints the last lines, and where the rest stands.
    """
    sys.stderr.flush()
    former, terminal = sys.stderr, os.dup(2)
    log, path = tempfile.mkstemp(prefix="editmill-ray-core-", suffix=".log")
    teller = subprocess.Popen(
        ["/bin/sh", "-c", _TELL, "sh", path, str(LINES)], stdin=subprocess.PIPE, stdout=terminal, stderr=terminal
    )
    try:
        os.dup2(log, 2)
        # Where something else stands in for standard error (a test, a notebook), it is not on descriptor 2.
        if former is sys.__stderr__:
            sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1)
        yield
    finally:
        if sys.stderr is not former:
            sys.stderr.close()
            sys.stderr = former
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(log)
        teller.communicate(b"ended\n")
