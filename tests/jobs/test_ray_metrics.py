"""The rows of a run on Ray are a Prometheus metric that adds up to its manifest."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from pair_files import environment, write_config, write_pairs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

# The session must live on until the metrics were exported, so the command line runs inside of it.
SCRIPT = """
import sys, ray
ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False,
         _metrics_export_port=int(sys.argv[1]))
from jobs.cli import app
app(["run", sys.argv[2], "--runner", "ray"], standalone_mode=False)
print("ended", flush=True)
sys.stdin.read()
"""
LINE = re.compile(r'ray_editmill_rows_total\{.*outcome="(\w+)",run="(\w+)",step="(\w+)"\} ([\d.]+)')


def exported(port: int) -> Counter[tuple[str, str]]:
    """(step, outcome) -> rows."""
    rows: Counter[tuple[str, str]] = Counter()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return rows
    for outcome, run, step, value in LINE.findall(text):
        assert run == "job"
        rows[step, outcome] += round(float(value))
    return rows


def test_the_metric_adds_up_to_the_manifest(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = write_config(tmp_path / "job.yaml", write_pairs(tmp_path / "pairs"), pack=None)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(port), str(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any(line == "ended\n" for line in process.stdout)
        manifest = json.loads((tmp_path / "job" / "manifest.json").read_text())
        expected = {
            (stage["name"], outcome): rows
            for stage in manifest["stages"]
            for outcome, rows in {"kept": stage["kept"], **stage["rejected"]}.items()
        }
        deadline = time.monotonic() + 240
        while (found := exported(port)) != expected and time.monotonic() < deadline:
            time.sleep(1)
        assert found == expected
    finally:
        process.kill()
        process.wait()
