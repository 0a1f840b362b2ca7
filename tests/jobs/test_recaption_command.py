"""editmill recaption against a server that counts: killed and restarted, stopped at a limit, over pairs and on Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pair_files import ROOT, command, editmill, environment, write_pairs
from PIL import Image

from jobs.event_log import read_events

sys.path.insert(0, str(ROOT / "tests" / "pipelines"))
from caption_server import Endpoint, serve

pytestmark = pytest.mark.slow

CAPTIONS = json.dumps({"short": "A plain grey square.", "long": "A plain grey square fills the whole of the picture."})
COUNT = 24


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metadata and images that differ in one pixel each, in partitions of eight."""
    folder = tmp_path_factory.mktemp("collection")
    names = [f"{number}.png" for number in range(COUNT)]
    for number, name in enumerate(names):
        Image.fromarray(np.full((32, 32, 3), (90, 90, number), np.uint8)).save(folder / name)
    pq.write_table(pa.table({"url": names, "caption": names}), folder / "metadata.parquet", row_group_size=8)
    return folder


def arguments(collection: Path, output: Path, endpoint: Endpoint, *more: object) -> list[str]:
    asked = ["--endpoint", endpoint.url, "--model", "tiny-vlm", "--images", collection, "--output", output]
    return ["recaption", *map(str, (collection / "metadata.parquet", *asked, *more))]


def records(run: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((run / "records").iterdir())])


def test_a_killed_run_asks_only_what_it_lacks_and_ends_as_if_never_killed(collection: Path, tmp_path: Path) -> None:
    images = [(collection / f"{number}.png").read_bytes() for number in range(COUNT)]
    with serve(good=CAPTIONS) as endpoint:
        assert editmill(*arguments(collection, tmp_path / "whole", endpoint)).returncode == 0
    with serve(good=CAPTIONS, behaviours=dict.fromkeys(images, "slow")) as endpoint:
        call = command(*arguments(collection, tmp_path / "killed", endpoint, "--concurrency", 2))
        for stop_at in (5, 11, 16):
            job = subprocess.Popen(call, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 240
            while len(endpoint.images) < stop_at and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(job.pid, signal.SIGKILL)
            job.wait()
        assert 16 <= len(endpoint.images) < COUNT
        done = editmill(*arguments(collection, tmp_path / "killed", endpoint))
        assert done.returncode == 0, done.stderr
        assert len(endpoint.images) <= COUNT + 3 * 2, "at most what was in flight at a kill is asked again"
        again = editmill(*arguments(collection, tmp_path / "killed", endpoint))
        assert "nothing to do" in again.stdout
    assert records(tmp_path / "killed").equals(records(tmp_path / "whole"))
    [told] = [event for event in read_events(tmp_path / "killed" / "log.jsonl") if event["event"] == "model_asked"]
    assert COUNT <= told["requests"] <= COUNT + 6 and told["prompt_tokens"] == 100 * told["requests"]
    assert f"{told['requests']} replies" in done.stdout
    assert "What models were asked" in (tmp_path / "killed" / "report.html").read_text()


def test_a_job_stops_at_its_limit_and_goes_on_with_a_higher_one(collection: Path, tmp_path: Path) -> None:
    prices = ("--prompt-price", 2, "--completion-price", 5, "--concurrency", 2)
    with serve(good=CAPTIONS) as endpoint:
        stopped = editmill(*arguments(collection, tmp_path / "run", endpoint, *prices, "--money-limit", 0.003))
        assert stopped.returncode == 2 and "at most 0.003 may be spent" in stopped.stderr
        assert 10 <= len(endpoint.images) <= 11
        done = editmill(*arguments(collection, tmp_path / "run", endpoint, *prices, "--money-limit", 1))
        assert done.returncode == 0, done.stderr
        assert len(endpoint.images) == COUNT
    assert f"{COUNT} replies" in done.stdout and "0.0072 spent" in done.stdout
    assert records(tmp_path / "run").num_rows == COUNT


def test_pairs_get_instructions_and_go_on_to_masks_and_shards(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", count=6)
    lines = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    lines = [{**line, "instruction": "" if number % 2 else line["instruction"]} for number, line in enumerate(lines)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    written = json.dumps({"edit_type": "add", "instruction": "Add a bright square."})
    with serve(good=written) as endpoint:
        backend = ["--endpoint", endpoint.url, "--model", "tiny-vlm"]
        done = editmill("recaption", folder, "--write-instructions", "--output", tmp_path / "run", *backend)
        assert done.returncode == 0, done.stderr
        assert len(endpoint.images) == 2, "one of the three images without instruction is broken"
    for arguments in (
        ("masks", tmp_path / "run", "--output", tmp_path / "masked", "--recipe", "seed"),
        ("pack", tmp_path / "masked", "--output", tmp_path / "shards"),
        ("validate", tmp_path / "shards"),
    ):
        done = editmill(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    packed = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "shards").rglob("edits-*.parquet"))])
    by_text = dict(zip(packed["instruction"].to_pylist(), packed["captions"].to_pylist(), strict=True))
    assert by_text["Add a bright square."][0]["kind"] == "instruction" and not by_text["edit 2"]


def test_workers_share_what_was_answered_and_what_was_spent(collection: Path, tmp_path: Path) -> None:
    with serve(good=CAPTIONS) as endpoint:
        more = ("--runner", "ray", "--workers", 2, "--prompt-price", 2, "--completion-price", 5)
        stopped = editmill(*arguments(collection, tmp_path / "run", endpoint, *more, "--money-limit", 0.0012))
        assert stopped.returncode == 2 and "may be spent" in stopped.stderr, stopped.stderr
        # Two workers of eight requests in flight each, who look at each other's sums twice a second.
        assert len(endpoint.images) < COUNT
        done = editmill(*arguments(collection, tmp_path / "run", endpoint, *more))
        assert done.returncode == 0, done.stderr
        assert len(endpoint.images) == COUNT, "nothing was asked twice"
    assert f"{COUNT} replies" in done.stdout and "0.0072 spent" in done.stdout


def test_a_plan_prices_the_tokens_and_what_it_asked_is_not_asked_again(collection: Path, tmp_path: Path) -> None:
    with serve(good=CAPTIONS) as endpoint:
        price = {"prompt": 2.0, "completion": 5.0}
        backend = {"kind": "openai", "url": endpoint.url, "model": "tiny-vlm", "price": price}
        values = {
            "name": "planned",
            "output": str(tmp_path / "run"),
            "source": {"image_records_parquet": {"paths": [str(collection / "metadata.parquet")]}},
            "steps": [{"local_images": {"root": str(collection)}}, {"recaption": {"backend": backend}}],
        }
        (tmp_path / "planned.yaml").write_text(yaml.safe_dump(values))
        for _ in range(2):
            planned = editmill("plan", tmp_path / "planned.yaml", "--rows", 6, "--json")
            assert planned.returncode == 0, planned.stderr
            stage = json.loads(planned.stdout)["stages"][-1]
            assert stage["prompt_tokens"] == pytest.approx(100 * COUNT)
            assert stage["model_money"] == pytest.approx(300e-6 * COUNT) == json.loads(planned.stdout)["money"]
        assert "recaption: 2,400 prompt" in editmill("plan", tmp_path / "planned.yaml", "--rows", 6).stdout
        assert len(endpoint.images) == 6
        assert editmill("run", tmp_path / "planned.yaml").returncode == 0
        assert len(endpoint.images) == COUNT


def test_options_that_do_not_belong_are_refused(collection: Path, tmp_path: Path) -> None:
    metadata = collection / "metadata.parquet"
    for more, said in (
        ((), "exactly one must be given"),
        (("--endpoint", "http://one/v1", "--local-model", "m"), "exactly one must be given"),
        (("--endpoint", "http://one/v1"), "must be given with --endpoint"),
        (("--local-model", "m", "--money-limit", 3), "belong to --endpoint"),
        (("--local-model", "m", "--model", "x"), "belongs to --endpoint"),
        (("--local-model", "m", "--write-instructions", "--column", "target"), "does not belong"),
    ):
        done = editmill("recaption", metadata, "--output", tmp_path / "run", *more)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()
