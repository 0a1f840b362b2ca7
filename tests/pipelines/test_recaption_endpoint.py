"""Recaptioning through an endpoint: good replies are stored, every fault ends in a rejected row with its reason."""

from __future__ import annotations

import asyncio
import hashlib
import io
import pickle
import random
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from caption_server import GOOD, serve
from PIL import ExifTags, Image

from pipelines.recaption import Recaption, RecaptionConfig
from pipelines.recaption import prompt as prompt_module
from pipelines.recaption.prompt import load_prompt
from pipelines.retries import LONGEST_WAIT_S, parse_retry_after, wait_s
from pipelines.step import StepResult
from schemas.config import parse_config
from schemas.errors import ConfigError, EditmillError, InputError, SchemaError
from schemas.outcomes import OUTCOME
from schemas.records import IMAGE_RECORD, IMAGE_TYPE

PROMPTS = Path(prompt_module.__file__).parent / "prompts"


def picture(number: int, **save: Any) -> bytes:
    pixels = np.full((32, 48, 3), (200, 30, number), np.uint8)
    pixels[8:24, 8:24] = (20, 180, number)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, **{"format": "PNG", **save})
    return stream.getvalue()


def rows(*images: bytes | None, column: str = "image") -> pa.Table:
    structs = [None if image is None else {"bytes": image, "path": "picture.png"} for image in images]
    keys = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(len(images))]
    return pa.table({"key": keys, "url": [f"https://{key}" for key in keys], column: pa.array(structs, IMAGE_TYPE)})


def step(
    url: str, prompt: str = "caption_long.v1", column: str = "image", max_repairs: int = 0, **backend: Any
) -> Recaption:
    quick = {"kind": "openai", "url": url, "model": "tiny-vlm", "timeout_s": 5.0, "max_attempts": 2, "backoff_s": 0.01}
    values = {"backend": {**quick, **backend}, "prompt": prompt, "column": column, "max_repairs": max_repairs}
    return Recaption(parse_config(RecaptionConfig, values, "recaption"))


def reasons(result: StepResult) -> dict[str, str]:
    return dict(zip(result.rejected["key"].to_pylist(), result.rejected["reason"].to_pylist(), strict=True))


def test_captions_are_stored_with_what_wrote_them() -> None:
    images = [picture(number) for number in range(5)]
    with serve() as endpoint:
        recaption = step(endpoint.url)
        recaption.preflight()
        recaption.setup()
        first = recaption(rows(*images))
        both = step(endpoint.url, prompt="caption_short.v1")(first.kept)
    assert first.rejected.num_rows == 0
    assert sorted(endpoint.images[:5]) == sorted(images), "the original bytes are what is sent"
    sha256 = hashlib.sha256((PROMPTS / "caption_long.v1.yaml").read_bytes()).hexdigest()
    expected = {
        "text": GOOD,
        "kind": "long",
        "model": "tiny-vlm",
        "prompt": "caption_long",
        "prompt_version": 1,
        "prompt_sha256": sha256,
    }
    assert first.kept["captions"].to_pylist() == [[expected]] * 5
    assert [[caption["kind"] for caption in row] for row in both.kept["captions"].to_pylist()] == [
        ["long", "short"]
    ] * 5
    IMAGE_RECORD.check(both.kept)
    body = endpoint.requests[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny-vlm", 0.0, 512)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


FAULTS = {
    "always_500": "endpoint_error",
    "hang_up": "endpoint_error",
    "reset": "endpoint_error",
    "busy": "endpoint_error",
    "huge": "endpoint_reply_too_large",
    "bad_request": "endpoint_refused",
    "truncated_json": "endpoint_not_json",
    "no_json": "endpoint_not_json",
    "wrong_schema": "endpoint_wrong_schema",
    "wrong_types": "endpoint_wrong_schema",
    "drip_body": "endpoint_timeout",
    "drip_head": "endpoint_timeout",
    "empty": "caption_empty",
    "null": "caption_empty",
    "cut_off": "caption_truncated",
    "filtered": "caption_unfinished",
    "too_short": "caption_too_short",
    "too_long": "caption_too_long",
    "control": "caption_not_printable",
}


def test_every_fault_rejects_its_own_row_and_no_other() -> None:
    good = [picture(number) for number in range(100, 103)]
    bad = {picture(number): behaviour for number, behaviour in enumerate(FAULTS)}
    healed = {picture(50): "once_500", picture(51): "once_429"}
    with serve(behaviours={**bad, **healed}) as endpoint:
        # Long enough that a busy machine still sends every request within it.
        recaption = step(endpoint.url, timeout_s=2.0, deadline_s=8.0, concurrency=16)
        begun = time.monotonic()
        table = rows(good[0], *bad, good[1], None, b"", good[2][:60], b"no image", *healed, good[2])
        result = recaption(table)
        assert time.monotonic() - begun < 16, "two waves of requests, each within its deadline"
    expected = [None, *FAULTS.values(), None, "image_missing", "image_empty", "image_truncated", "image_format_unknown"]
    expected += [None, None, None]
    assert reasons(result) == {
        key: reason for key, reason in zip(table["key"].to_pylist(), expected, strict=True) if reason
    }
    assert {row[0]["text"] for row in result.kept["captions"].to_pylist()} == {GOOD}
    OUTCOME.check(result.rejected)
    # Who asks to be left alone for longer than the deadline is left alone.
    retried = {"always_500", "hang_up", "reset", "drip_body", "drip_head"}
    assert result.figures["requests"] == len(good) + len(healed) + 7, "replies that were paid for"
    for image, behaviour in bad.items():
        assert endpoint.attempts[image] == (2 if behaviour in retried else 1), behaviour
    first, second = endpoint.times[picture(51)]
    assert second - first >= 0.4, "Retry-After is honoured"


def test_requests_in_flight_are_bounded_even_inside_a_running_event_loop() -> None:
    images = [picture(number) for number in range(9)]

    async def as_in_a_notebook(url: str) -> StepResult:
        return step(url, column="target", concurrency=3)(rows(*images, column="target"))

    with serve(behaviours=dict.fromkeys(images, "slow")) as endpoint:
        result = asyncio.run(as_in_a_notebook(endpoint.url))
    assert result.kept.num_rows == 9
    assert endpoint.most_in_flight == 3


def test_preflight_says_what_is_wrong_before_any_row(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(InputError, match="does not answer"):
        step(closed).preflight()
    with pytest.raises(InputError, match="does not answer any more"):
        step(closed)(rows(picture(0), picture(1)))
    with serve(listing_drips=True) as endpoint, pytest.raises(InputError, match="does not answer"):
        step(endpoint.url, timeout_s=0.5).preflight()
    with serve(key="secret") as endpoint:
        with pytest.raises(ConfigError, match="refuses access"):
            step(endpoint.url).preflight()
        with pytest.raises(ConfigError, match="variable is not set"):
            step(endpoint.url, api_key_env="EDITMILL_TEST_KEY").preflight()
        monkeypatch.setenv("EDITMILL_TEST_KEY", "secret")
        step(endpoint.url, api_key_env="EDITMILL_TEST_KEY").preflight()
        with pytest.raises(ConfigError, match="It lists: tiny-vlm"):
            step(endpoint.url, api_key_env="EDITMILL_TEST_KEY", model="other").preflight()
        with pytest.raises(InputError, match="must list models"):
            step(endpoint.url.removesuffix("/v1"), api_key_env="EDITMILL_TEST_KEY").preflight()


def test_images_that_an_endpoint_might_see_otherwise_are_sent_upright_and_small() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = picture(1, format="JPEG", exif=exif)
    bitmap = picture(2, format="BMP")
    stream = io.BytesIO()
    Image.new("RGB", (4000, 1000), (9, 99, 199)).save(stream, format="PNG")
    with serve() as endpoint:
        result = step(endpoint.url, concurrency=1)(rows(turned, bitmap, stream.getvalue()))
    assert result.kept.num_rows == 3
    sent = [Image.open(io.BytesIO(image)) for image in endpoint.images]
    assert [image.size for image in sent] == [(32, 48), (48, 32), (1536, 384)]
    assert {image.format for image in sent} == {"JPEG"}


def test_identity_follows_the_prompt_and_the_model_and_not_the_place(tmp_path: Path) -> None:
    content = (PROMPTS / "caption_long.v1.yaml").read_text(encoding="utf-8")
    own = tmp_path / "caption_long.v1.yaml"
    own.write_text(content, encoding="utf-8")
    here, there = step("http://one/v1"), step("http://two/v1", prompt=str(own), concurrency=2, timeout_s=9.0)
    assert here.fingerprint() == there.fingerprint()
    own.write_text(content.replace("one paragraph", "two paragraphs"), encoding="utf-8")
    assert step("http://one/v1", prompt=str(own)).fingerprint() != here.fingerprint()
    assert step("http://one/v1", model="other").fingerprint() != here.fingerprint()
    assert pickle.loads(pickle.dumps(here)).fingerprint() == here.fingerprint()


def test_prompts_and_configs_are_checked(tmp_path: Path) -> None:
    assert load_prompt("caption_short.v1").file.kind == "short"
    with pytest.raises(ConfigError, match=r"Known: caption_long\.v1, caption_short\.v1, captions\.v1"):
        load_prompt("caption_longer.v1")
    misnamed = tmp_path / "mine.yaml"
    misnamed.write_text("name: mine\nversion: 2\nkind: long\nuser: Describe.\nmax_characters: 100\n")
    with pytest.raises(ConfigError, match=r"must be called mine\.v2\.yaml"):
        load_prompt(str(misnamed))
    with pytest.raises(InputError):
        load_prompt(str(tmp_path / "none.v1.yaml"))
    with pytest.raises(EditmillError, match="http or https"):
        step("localhost:8000")
    with pytest.raises(SchemaError, match="must have the type"):
        step("http://one/v1", column="url")(rows(picture(0)))
    with pytest.raises(SchemaError, match="needs column 'target'"):
        step("http://one/v1", column="target")(rows(picture(0)))


def test_waits_grow_with_jitter_and_honour_the_endpoint() -> None:
    draw = random.Random(0)
    for attempt in range(1, 8):
        longest = min(LONGEST_WAIT_S, 0.5 * 2 ** (attempt - 1))
        waits = [wait_s(attempt, 0.5, None, draw) for _ in range(50)]
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 40
    assert 7.0 <= wait_s(1, 0.5, 7.0, draw) <= LONGEST_WAIT_S
    assert wait_s(500, 0.5, 1e9, draw) == LONGEST_WAIT_S
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_retry_after("Thu, 01 Jan 2026 00:00:07 GMT", now) == 7.0
    assert [parse_retry_after(text) for text in ("3", None, "soon", "nan")] == [3.0, None, None, None]
