"""A packing that was killed with SIGKILL, and started again, ends with the bytes of one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pack_samples import loaders_of, tree

from pipelines.pack import PackConfig, pack
from pipelines.pack.folder import begin
from pipelines.pack.job import PackResult
from schemas.atomic import write_json
from schemas.errors import InputError

CONFIG = PackConfig(samples_per_shard=2, row_group_rows=1)
COUNT = 40

SCRIPT = """
import sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from pack_samples import loaders_of
from pipelines.pack import PackConfig, pack
def tell(stage, done, total):
    print(stage, done, flush=True)
pack(loaders_of(40, 7), PackConfig(samples_per_shard=2, row_group_rows=1), Path(sys.argv[1]), progress=tell,
     overwrite=len(sys.argv) > 3)
"""


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    command = [sys.executable, "-c", SCRIPT, str(out), str(here), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here.parents[1])


def kill_during_writing(process: subprocess.Popen[str], shards: int, delay: float) -> None:
    """SIGKILL once `shards` shards are written and `delay` seconds went by; the process may have ended before."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == f"write {shards}":
            break
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()


def again(out: Path) -> PackResult:
    return pack(loaders_of(COUNT, 7), CONFIG, out)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("unbroken") / "shards"
    again(out)
    return tree(out)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_while_writing_and_started_again(tmp_path: Path, seed: int, unbroken: dict[str, bytes]) -> None:
    chance = random.Random(seed)
    out = tmp_path / "shards"
    for _ in range(2):
        # The last progress line is `write 20`, so the largest number falls into the index, the manifest and the end.
        kill_during_writing(start(out), chance.choice([0, 3, 11, 19, 20]), chance.uniform(0.0, 0.02))
    again(out)
    assert tree(out) == unbroken
    assert again(out).already_packed


@pytest.mark.slow
def test_killed_while_overwriting(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    out = tmp_path / "shards"
    pack(loaders_of(60, 60), CONFIG, out)
    kill_during_writing(start(out, "overwrite"), 2, 0.0)
    again(out)
    assert tree(out) == unbroken


class KilledError(BaseException):
    """Stands for SIGKILL at an exact place: nothing in the packer may catch it."""


@pytest.mark.parametrize("step", range(1, 19))
def test_stopped_at_any_write(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change to the folder is a rename or a removal; stopping before the n-th is what a kill there leaves."""
    out = tmp_path / "shards"
    pack(loaders_of(3, 3), CONFIG, out)
    pack(loaders_of(8, 3), CONFIG, tmp_path / "unbroken")
    left = step

    def count(real: object) -> object:
        def wrapped(self: Path, *arguments: object, **keywords: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise KilledError
            return real(self, *arguments, **keywords)  # type: ignore[operator]

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", count(Path.replace))
        patch.setattr(Path, "rmdir", count(Path.rmdir))
        with pytest.raises(KilledError):
            pack(loaders_of(8, 3), CONFIG, out, overwrite=True)
    # Before the first rename the folder is the old one still, and replacing it has to be allowed again.
    pack(loaders_of(8, 3), CONFIG, out, overwrite=step == 1)
    assert tree(out) == tree(tmp_path / "unbroken")


def test_a_partial_file_and_an_uncommitted_shard_are_cleaned(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    out = tmp_path / "shards"
    first = again(tmp_path / "other")
    begin(out, first.manifest.fingerprint, CONFIG)
    (out / "webdataset").mkdir()
    (out / "webdataset" / ".edits-000000.tar.123.partial").write_bytes(b"half")
    (out / "webdataset" / "edits-000099.tar").write_bytes(b"whole, but without a record")
    again(out)
    assert tree(out) == unbroken


def test_a_worker_that_is_lost_leaves_nothing(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    out = tmp_path / "shards"

    def lossy(function: Callable[[Any], Any], items: Sequence[Any], /) -> Iterable[Any]:
        if (out / ".work").exists():
            (out / "webdataset").mkdir(exist_ok=True)
            (out / "webdataset" / ".edits-000000.tar.123.partial").write_bytes(b"half, by a worker that was killed")
        return map(function, items)

    pack(loaders_of(COUNT, 7), CONFIG, out, run_map=lossy)
    assert tree(out) == unbroken


def test_work_of_another_packing_is_not_continued(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    write_json(out / ".work" / "job.json", {"fingerprint": "other", "config": {}})
    (out / "webdataset").mkdir()
    (out / "webdataset" / "edits-000000.tar").write_bytes(b"another's")
    with pytest.raises(InputError, match="other samples"):
        again(out)
    assert (out / "webdataset" / "edits-000000.tar").read_bytes() == b"another's"
