"""Replies that must be JSON: read strictly, asked for again with the fault named, a bounded number of times; and
instructions written for the pairs that lack one."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from caption_server import GOOD, serve
from PIL import Image

from pipelines.recaption import Recaption, RecaptionConfig, WriteInstructions, WriteInstructionsConfig
from pipelines.recaption import prompt as prompt_module
from pipelines.recaption.instruction_prompt import load_instruction_prompt, read_instruction
from pipelines.recaption.prompt import load_prompt
from pipelines.recaption.validation import read_captions
from pipelines.vlm.backend import Reply
from pipelines.vlm.reading import ReplyFault
from schemas.config import parse_config
from schemas.errors import ConfigError, RowRejected
from schemas.records import EDIT_PAIR, EDIT_SAMPLE, IMAGE_TYPE

BOTH = {"short": "A red square on green.", "long": "A red square stands on a plain green background."}
WRITTEN = {"edit_type": "add", "instruction": "Add a green square to the wall."}
PROMPT = load_prompt("captions.v1").file
INSTRUCTION_PROMPT = load_instruction_prompt("write_instruction.v1").file


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((32, 48, 3), (200, 30, number), np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def keys(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(count)]


def images(*data: bytes) -> pa.Table:
    structs = pa.array([{"bytes": one, "path": "a.png"} for one in data], IMAGE_TYPE)
    return pa.table({"key": keys(len(data)), "image": structs})


def backend(url: str) -> dict[str, Any]:
    return {"kind": "openai", "url": url, "model": "tiny-vlm", "timeout_s": 5.0, "max_attempts": 2, "backoff_s": 0.01}


def recaption(url: str, **values: Any) -> Recaption:
    return Recaption(parse_config(RecaptionConfig, {"backend": backend(url), **values}, "recaption"))


def writer(url: str, **values: Any) -> WriteInstructions:
    given = {"backend": backend(url), **values}
    return WriteInstructions(parse_config(WriteInstructionsConfig, given, "write_instructions"))


def test_one_reply_gives_a_short_and_a_long_caption() -> None:
    with serve(good=json.dumps(BOTH)) as endpoint:
        result = recaption(endpoint.url)(images(picture(0), picture(1)))
    [first, _] = result.kept["captions"].to_pylist()
    assert [(caption["kind"], caption["text"]) for caption in first] == list(BOTH.items())
    assert {(caption["prompt"], caption["prompt_version"]) for caption in first} == {("captions", 1)}
    form = endpoint.requests[0]["response_format"]["json_schema"]
    assert form["strict"] is True and form["schema"]["required"] == ["short", "long"]
    assert form["schema"]["additionalProperties"] is False
    with serve(good=json.dumps(BOTH)) as endpoint:
        given = {**backend(endpoint.url), "impose_schema": False}
        assert recaption(endpoint.url, backend=given)(images(picture(0))).kept.num_rows == 1
        assert "response_format" not in endpoint.requests[0]


WRONG = {
    "not json": "caption_not_json",
    json.dumps(BOTH)[:-9]: "caption_not_json",
    f"Here it is: {json.dumps(BOTH)}": "caption_not_json",
    f"```json\n{json.dumps(BOTH)}\n```": "caption_not_json",
    json.dumps(BOTH) * 2: "caption_not_json",
    "[" * 100_000: "caption_not_json",
    "{}": "caption_wrong_schema",
    "[]": "caption_wrong_schema",
    '"short"': "caption_wrong_schema",
    "null": "caption_wrong_schema",
    json.dumps({"short": BOTH["short"]}): "caption_wrong_schema",
    json.dumps({**BOTH, "more": "x"}): "caption_wrong_schema",
    json.dumps({**BOTH, "long": None}): "caption_wrong_schema",
    json.dumps({**BOTH, "long": [BOTH["long"]]}): "caption_wrong_schema",
    json.dumps(BOTH)[:-1] + ', "short": "Another short one."}': "caption_wrong_schema",
    json.dumps({**BOTH, "short": "  "}): "caption_empty",
    json.dumps({**BOTH, "short": "Red."}): "caption_too_short",
    json.dumps({**BOTH, "long": "red " * 1000}): "caption_too_long",
    json.dumps({**BOTH, "long": BOTH["long"] + "\ud800"}): "caption_not_printable",
    json.dumps({**BOTH, "long": BOTH["long"] + "\u0000"}): "caption_not_printable",
    "": "caption_empty",
}


@pytest.mark.parametrize(("text", "reason"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_no_such_object_is_no_caption(text: str, reason: str) -> None:
    with pytest.raises(ReplyFault) as caught:
        read_captions(Reply(text, "stop"), PROMPT)
    assert caught.value.reason == reason


def test_a_faulty_reply_is_asked_for_again_with_the_fault() -> None:
    with serve(behaviours={picture(0): "once_faulty"}, good=json.dumps(BOTH)) as endpoint:
        result = recaption(endpoint.url)(images(picture(0), picture(1)))
    assert result.kept.num_rows == 2 and len(endpoint.requests) == 3
    asked_again = endpoint.requests[-1]["messages"]
    assert [message["role"] for message in asked_again] == ["system", "user", "assistant", "user"]
    assert asked_again[2]["content"] == "A." and "not one JSON object" in asked_again[3]["content"]
    used = [row[0]["prompt_tokens"] for row in result.kept["model_tokens"].to_pylist()]
    assert used == [200, 100], "both replies count for the row that needed two"
    assert result.figures["requests"] == 3


@pytest.mark.parametrize("repairs", [0, 1, 3])
def test_repairs_are_bounded_and_the_last_reply_is_evidence(tmp_path: Path, repairs: int) -> None:
    with serve(good="A. \ud83d\x00") as endpoint:
        given = {"max_repairs": repairs, "cache": str(tmp_path)}
        result = recaption(endpoint.url, **given)(images(picture(0)))
        assert len(endpoint.requests) == 1 + repairs
        again = recaption(endpoint.url, **given)(images(picture(0)))
        assert len(endpoint.requests) == 1 + repairs, "a reply that was no good is kept, too"
    [evidence] = [json.loads(text) for text in result.rejected["evidence"].to_pylist()]
    assert evidence == {
        "reply": "A. ?\ufffd",
        "prompt_tokens": 100 * (1 + repairs),
        "completion_tokens": 20 * (1 + repairs),
    }
    assert again.rejected.equals(result.rejected)
    assert ("asked" in result.rejected["sentence"][0].as_py()) == bool(repairs)


def test_what_a_filter_withheld_is_not_asked_for_again() -> None:
    with serve(behaviours={picture(0): "filtered", picture(1): "bad_request"}) as endpoint:
        result = recaption(endpoint.url, max_repairs=3)(images(picture(0), picture(1)))
    assert result.rejected["reason"].to_pylist() == ["caption_unfinished", "endpoint_refused"]
    assert len(endpoint.requests) == 2


def test_caption_prompts_have_one_form(tmp_path: Path) -> None:
    def load(more: str) -> None:
        (tmp_path / "mine.v1.yaml").write_text(f"name: mine\nversion: 1\nuser: Describe.\n{more}")
        load_prompt(str(tmp_path / "mine.v1.yaml"))

    load("kind: long\nmax_characters: 9")
    load("captions: {long: {max_characters: 9}}")
    for more, rule in (
        ("", "either kind or captions"),
        ("kind: long\nmax_characters: 9\ncaptions: {long: {max_characters: 9}}", "either kind or captions"),
        ("kind: long", "max_characters is required"),
        ("captions: {long: {max_characters: 9, min_characters: 10}}", "is above max_characters"),
        ("captions: {middle: {max_characters: 9}}", "'short' or 'long'"),
    ):
        with pytest.raises(ConfigError, match=rule):
            load(more)
    assert Path(prompt_module.__file__).parent.joinpath("prompts", "captions.v1.yaml").exists()


def pairs(*rows: tuple[bytes | None, str | None, str | None], references: int = 1) -> pa.Table:
    reference = [{"bytes": picture(200 + number), "path": "before.png"} for number in range(references)]
    targets = [{"bytes": target, "path": "after.png"} for target, _, _ in rows]
    return pa.table(
        {
            "key": keys(len(rows)),
            "references": pa.array([reference] * len(rows), pa.list_(IMAGE_TYPE)),
            "target": pa.array(targets, IMAGE_TYPE),
            "instruction": pa.array([instruction for _, instruction, _ in rows], pa.string()),
            "edit_type": pa.array([edit_type for _, _, edit_type in rows], pa.string()),
        }
    )


def test_pairs_without_instruction_get_one_and_others_stay() -> None:
    with serve(good=json.dumps(WRITTEN)) as endpoint:
        step = writer(endpoint.url)
        table = pairs(
            (picture(0), "", None), (picture(1), "make it blue", None), (picture(2), " ", "style"), references=2
        )
        result = step(table)
        assert len(endpoint.requests) == 2, "a pair that has its instruction costs nothing"
        rewritten = writer(endpoint.url, rewrite=True)(table)
        assert len(endpoint.requests) == 5
    text = WRITTEN["instruction"]
    assert result.kept["key"].to_pylist() == table["key"].to_pylist()
    assert result.kept["instruction"].to_pylist() == [text, "make it blue", text]
    assert result.kept["edit_type"].to_pylist() == ["add", None, "style"], "what the data set says stays"
    first, second, _ = result.kept["captions"].to_pylist()
    assert second == [] and first == [
        {
            "text": text,
            "kind": "instruction",
            "model": "tiny-vlm",
            "prompt": "write_instruction",
            "prompt_version": 1,
            "prompt_sha256": load_instruction_prompt("write_instruction.v1").sha256,
        }
    ]
    assert [len(used) for used in result.kept["model_tokens"].to_pylist()] == [1, 0, 1]
    assert rewritten.kept["instruction"].to_pylist() == [text] * 3
    EDIT_PAIR.conform(result.kept)
    for name in ("captions", "instruction", "edit_type"):
        assert result.kept.schema.field(name).type == EDIT_SAMPLE.fields.field(name).type
    shown = [part["type"] for part in endpoint.requests[0]["messages"][1]["content"]]
    assert shown == ["image_url", "image_url", "image_url", "text"]
    enum = endpoint.requests[0]["response_format"]["json_schema"]["schema"]["properties"]["edit_type"]["enum"]
    assert "none" in enum and "add" in enum


def test_every_fault_rejects_its_own_pair() -> None:
    faults = {
        "always_500": "endpoint_error",
        "truncated_json": "endpoint_not_json",
        "wrong_schema": "endpoint_wrong_schema",
        "reset": "endpoint_error",
        "cut_off": "instruction_truncated",
        "null": "instruction_empty",
    }
    said = {
        picture(60): (json.dumps({"edit_type": "none", "instruction": "none"}), "no_edit_seen"),
        picture(61): (json.dumps({**WRITTEN, "edit_type": "magic"}), "edit_type_unknown"),
        picture(62): (json.dumps({**WRITTEN, "instruction": "Go"}), "instruction_too_short"),
        picture(63): (GOOD, "instruction_not_json"),
        picture(64): (json.dumps([WRITTEN]), "instruction_wrong_schema"),
    }
    behaviours = {picture(number): behaviour for number, behaviour in enumerate(faults)}
    texts = {image: text for image, (text, _) in said.items()}
    with serve(behaviours=behaviours, good=json.dumps(WRITTEN), texts=texts) as endpoint:
        targets = [picture(50), *behaviours, *said, None, b"no image", picture(51)]
        result = writer(endpoint.url)(pairs(*((target, "", None) for target in targets)))
    expected = [*faults.values(), *(reason for _, reason in said.values()), "image_missing", "image_format_unknown"]
    assert result.rejected["reason"].to_pylist() == expected
    assert result.kept.num_rows == 2 and set(result.kept["instruction"].to_pylist()) == {WRITTEN["instruction"]}


def test_an_instruction_is_read_strictly() -> None:
    assert read_instruction(Reply(json.dumps(WRITTEN), "stop"), INSTRUCTION_PROMPT) == tuple(WRITTEN.values())
    with pytest.raises(RowRejected) as caught:
        read_instruction(Reply(json.dumps(WRITTEN), "content_filter"), INSTRUCTION_PROMPT)
    assert caught.value.reason == "instruction_unfinished" and not isinstance(caught.value, ReplyFault)
