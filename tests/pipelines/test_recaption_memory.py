"""What was answered is not asked again, by nobody who shares the folder; what is paid has a limit; pace is held."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from caption_server import completion, serve
from PIL import Image

from pipelines.recaption import Recaption, RecaptionConfig
from pipelines.vlm.backend import Reply, Request
from pipelines.vlm.chat_completions import parse_completion
from pipelines.vlm.config import PriceConfig
from pipelines.vlm.ledger import Ledger, account_totals
from pipelines.vlm.pace import Pace, Pacer
from pipelines.vlm.reply_cache import ReplyCache, request_key
from pipelines.vlm.revision import model_revision
from schemas.config import parse_config
from schemas.errors import BudgetError, ConfigError
from schemas.records import IMAGE_TYPE


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((32, 48, 3), (200, number // 256, number % 256), np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def rows(images: Sequence[bytes]) -> pa.Table:
    keys = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(len(images))]
    return pa.table({"key": keys, "image": pa.array([{"bytes": one, "path": "a.png"} for one in images], IMAGE_TYPE)})


def step(url: str, cache: Path | None, backend: dict[str, Any] | None = None, **values: Any) -> Recaption:
    quick = {"kind": "openai", "url": url, "model": "tiny-vlm", "timeout_s": 10.0, "max_attempts": 2, "backoff_s": 0.01}
    given = {"backend": {**quick, **(backend or {})}, "prompt": "caption_long.v1", **values}
    return Recaption(parse_config(RecaptionConfig, {**given, "cache": cache and str(cache)}, "recaption"))


def test_nothing_is_asked_twice_and_what_decides_a_reply_decides_the_question(tmp_path: Path) -> None:
    images = [picture(number) for number in range(6)]
    with serve() as endpoint:
        first = step(endpoint.url, tmp_path)(rows([*images, images[0]]))
        assert len(endpoint.images) == 6, "equal images in a batch are one question"
        again = step(endpoint.url + "/", tmp_path, {"concurrency": 1, "timeout_s": 3.0})(rows([*images, images[0]]))
        assert len(endpoint.images) == 6, "where the model stands, and how fast it is asked, is no part of the question"
        for changed in (
            {"max_new_tokens": 99},
            {"temperature": 0.5},
            {"prompt": "caption_short.v1"},
            {"backend": {"revision": "2"}},
            {"backend": {"stored_name": "other"}},
        ):
            step(endpoint.url, tmp_path, **changed)(rows(images[:1]))
        assert len(endpoint.images) == 11
    assert again.kept.equals(first.kept)
    assert again.figures == {"replies_from_cache": 6}
    assert first.figures == {"replies_from_cache": 0, "requests": 6, "prompt_tokens": 600, "completion_tokens": 120}
    tokens = {"step": "recaption", "prompt_tokens": 100, "completion_tokens": 20}
    assert first.kept["model_tokens"].to_pylist() == [[tokens]] * 7


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"reply": 1}', b"\x00" * 64, "flip", "swap"])
def test_a_damaged_file_is_a_miss_and_is_written_anew(tmp_path: Path, damage: bytes | str) -> None:
    cache, reply = ReplyCache(tmp_path), Reply("A lone \ud800 surrogate\x00.", "stop", 3, None)
    key, other = (request_key(Request("", (text,)), {}) for text in ("a", "b"))
    cache.put(key, reply)
    cache.put(other, Reply("Another.", "stop"))
    assert cache.get(key) == reply and cache.get("0" * 64) is None
    path = cache.path(key)
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data.replace(b"lone", b"loan"))
    elif damage == "swap":
        path.write_bytes(cache.path(other).read_bytes())
    else:
        path.write_bytes(bytes(damage, "ascii") if isinstance(damage, str) else damage)
    assert cache.get(key) is None
    cache.put(key, reply)
    assert cache.get(key) == reply


def test_writers_of_one_reply_do_not_disturb_each_other(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path)
    key = request_key(Request("", ("a",)), {})
    found: list[Reply | None] = []

    def write(number: int) -> None:
        for _ in range(20):
            cache.put(key, Reply("x" * 1000 * (1 + number), "stop"))
            found.append(cache.get(key))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160 and None not in found
    assert [path.name for path in cache.path(key).parent.iterdir()] == [cache.path(key).name]


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_recaption_memory import picture, rows, step
images = [picture(number) for number in range({count})]
step({url!r}, Path({cache!r}), {{"concurrency": 3}})(rows(images))
"""


def start_worker(url: str, cache: Path, count: int) -> subprocess.Popen[bytes]:
    code = WORKER.format(here=str(Path(__file__).parent), url=url, cache=str(cache), count=count)
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])


def test_a_killed_worker_leaves_every_reply_that_came(tmp_path: Path) -> None:
    count = 30
    images = [picture(number) for number in range(count)]
    with serve(behaviours=dict.fromkeys(images, "slow")) as endpoint:
        for stop_at in (6, 18):
            worker = start_worker(endpoint.url, tmp_path, count)
            deadline = time.monotonic() + 60
            while len(endpoint.images) < stop_at and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        asked_before = len(endpoint.images)
        kept = len(list((tmp_path / "kept").glob("*/[0-9a-f]*.json")))
        assert 18 <= asked_before < count and asked_before - 6 <= kept, "at most those in flight are lost, twice three"
        result = step(endpoint.url, tmp_path)(rows(images))
    assert result.kept.num_rows == count
    assert len(endpoint.images) == asked_before + count - kept, "only what the cache lacks is asked"
    assert result.figures["replies_from_cache"] == kept
    [account] = (tmp_path / "spent").iterdir()
    assert account_totals(account)["requests"] >= count


def test_money_has_a_limit_over_workers_and_restarts(tmp_path: Path) -> None:
    images = [picture(number) for number in range(20)]
    # A reply is 100 prompt and 20 completion tokens: 100 x 2 + 20 x 5 = 300 millionths.
    price = {"prompt": 2.0, "completion": 5.0}

    def limited(limit: float) -> Recaption:
        return step(endpoint.url, tmp_path, {"concurrency": 2, "price": {**price, "limit": limit}})

    with serve() as endpoint:
        with pytest.raises(BudgetError, match=r"spent 0\.00(15|18).*at most 0\.0015 may be spent") as caught:
            limited(0.0015)(rows(images))
        assert "none is paid for twice" in caught.value.mend
        paid = len(endpoint.images)
        assert 5 <= paid <= 6, "beyond the limit only what was in flight"
        with pytest.raises(BudgetError):
            limited(0.0015)(rows(images))
        assert len(endpoint.images) == paid, "a restart does not begin at nothing"
        result = limited(1.0)(rows(images))
        assert result.kept.num_rows == len(endpoint.images) == 20
        with pytest.raises(ConfigError, match="does not tell the tokens"):
            endpoint.behaviours[picture(99)] = "no_usage"
            limited(1.0)(rows([picture(99)]))
    with pytest.raises(ConfigError, match="needs a cache"):
        step("http://one/v1", None, {"price": {"limit": 1.0}})


def test_two_ledgers_of_one_account_add_up(tmp_path: Path) -> None:
    price = PriceConfig(prompt=1.0, completion=1.0, limit=0.0005, account="ours")
    one, two = (Ledger(tmp_path, "ours", price) for _ in range(2))
    reply = parse_completion(completion())
    for ledger in (one, one, two, two):
        ledger.check()
        ledger.enter(reply)
    assert account_totals(tmp_path) == {
        "requests": 4,
        "prompt_tokens": 400,
        "completion_tokens": 80,
        "spent_millionths": 480,
    }
    two.enter(reply)
    for number, damaged in enumerate(("{", "[1]", "7", '{"requests": "x"}')):
        (tmp_path / f"{number}bad.json").write_text(damaged)
    with pytest.raises(BudgetError):
        Ledger(tmp_path, "ours", price).check()


def test_requests_are_spaced_and_tokens_keep_the_next_ones_away(tmp_path: Path) -> None:
    now = 1000.0
    waits, pace = [], Pace()
    for _ in range(4):
        wait, pace = pace.admitted(now, 120.0)
        waits.append(wait)
    assert waits == [0.0, 0.5, 1.0, 1.5]
    assert pace.charged(now, 3000, 60_000.0).admitted(now, None)[0] == 3.0, "the later of the two"
    assert Pace(tokens=now).charged(now, 3000, 60_000.0).admitted(now, None)[0] == 3.0
    assert Pace(9e9, 9e9).bounded(now).admitted(now, None)[0] == 3600.0
    # Two workers that share a file are one.
    workers = [Pacer(tmp_path / "pace.json", 60.0, 6000.0, clock=lambda: now) for _ in range(2)]
    assert [workers[turn % 2].admit() for turn in range(4)] == [0.0, 1.0, 2.0, 3.0]
    workers[0].charge(1000)
    assert workers[1].admit() == 10.0
    (tmp_path / "pace.json").write_text("{damaged")
    assert workers[0].admit() == 0.0
    assert Pacer(None, None, None).admit() == 0.0


def test_the_pace_is_held_at_the_server(tmp_path: Path) -> None:
    images = [picture(number) for number in range(6)]
    with serve() as endpoint:
        step(endpoint.url, tmp_path, {"requests_per_minute": 600.0})(rows(images))
    times = sorted(time for each in endpoint.times.values() for time in each)
    assert times[-1] - times[0] >= 0.45, "six requests at ten a second"


def test_a_folder_has_a_revision_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    before = model_revision(str(tmp_path), "")
    assert before == model_revision(str(tmp_path), "") and len(before) == 16
    (tmp_path / "model.safetensors").write_bytes(bytes(999) + b"\x01")
    assert model_revision(str(tmp_path), "") != before
    assert model_revision(str(tmp_path), "abc") == "abc" and model_revision("org/name", "") == ""


def test_replies_of_an_endpoint_are_read_with_their_tokens() -> None:
    assert parse_completion(completion("x")) == Reply("x", "stop", 100, 20)
    odd: list[Any] = [None, [], {}, {"prompt_tokens": "7", "completion_tokens": -1}, {"prompt_tokens": True}]
    assert {parse_completion(completion("x", usage=usage)) for usage in odd} == {Reply("x", "stop")}
