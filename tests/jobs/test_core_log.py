"""A crash inside Ray's C++ core reaches the user, though what it says otherwise stays off the terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ended_by(last: str, tmp_path: Path, session: str = "core_kept_off_the_terminal()") -> tuple[int, str]:
    code = f"""
import os, sys
from jobs.runners.config import RunnerConfig
from jobs.runners.core_log import core_kept_off_the_terminal
from jobs.runners.ray_session import ray_session
with {session}:
    print("from Python", file=sys.stderr)
    os.write(2, b"from the core\\n")
    {last}
os.write(2, b"after\\n")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "RAY_TMPDIR": "/tmp"}
    # Its child writes on after its death: the pipe's end is waited for.
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("last", ["pass", "raise SystemExit(3)"])
def test_nothing_of_the_core_is_shown_after_an_ordinary_end(tmp_path: Path, last: str) -> None:
    code, said = ended_by(last, tmp_path)
    assert (code, said) == ((0, "from Python\nafter\n") if last == "pass" else (3, "from Python\n"))
    assert not list(tmp_path.glob("editmill-ray-core-*"))


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_after_a_crash_in_a_session_the_last_lines_and_their_place_are_told(tmp_path: Path) -> None:
    session = 'ray_session(RunnerConfig(kind="ray", workers=1, object_store_mib=100))'
    code, said = ended_by("os.abort()", tmp_path, session)
    assert code == -6, said
    assert "ended without a word of its own" in said and "from the core" in said and "SIGABRT" in said
    [place] = re.findall(r"in (\S+\.log):", said)
    assert "from the core" in Path(place).read_text()
