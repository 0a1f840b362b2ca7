"""The judge: only a reply that gives every score on a line of its own becomes numbers; all else is a reason."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from caption_server import serve
from PIL import Image

from pipelines.judge import Judge, JudgeConfig
from pipelines.judge.prompt import load_prompt
from pipelines.judge.reading import read_scores
from pipelines.step import StepResult
from pipelines.vlm.backend import Reply
from pipelines.vlm.reading import ReplyFault
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError, RowRejected
from schemas.outcomes import OUTCOME
from schemas.records import EDIT_PAIR, EDIT_SAMPLE, IMAGE_TYPE

PROMPT = load_prompt("imgedit_scores.v1").file
REPLY = "Brief reasoning: The cup is blue and nothing else changed.\nScore 1: 5\nScore 2: 4"


def picture(number: int) -> bytes:
    pixels = np.full((32, 48, 3), (200, 30, number), np.uint8)
    pixels[8:24, 8:24] = (20, 180, number)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def pairs(*targets: bytes | None, references: int = 1, instruction: str = "make the cup blue") -> pa.Table:
    count = len(targets)
    reference = [{"bytes": picture(200 + number), "path": "before.png"} for number in range(references)]
    return pa.table(
        {
            "key": [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(count)],
            "references": pa.array([reference] * count, pa.list_(IMAGE_TYPE)),
            "target": pa.array([{"bytes": target, "path": "after.png"} for target in targets], IMAGE_TYPE),
            "instruction": [instruction] * count,
        }
    )


def judge(url: str, backend: dict[str, Any] | None = None, **values: Any) -> Judge:
    quick = {"kind": "openai", "url": url, "model": "tiny-vlm", "timeout_s": 5.0, "max_attempts": 2, "backoff_s": 0.01}
    return Judge(parse_config(JudgeConfig, {"backend": {**quick, **(backend or {})}, **values}, "judge"))


def reasons(result: StepResult) -> list[tuple[str, str]]:
    return list(zip(result.rejected["key"].to_pylist(), result.rejected["reason"].to_pylist(), strict=True))


def test_scores_are_stored_with_what_gave_them() -> None:
    with serve(good=REPLY) as endpoint:
        step = judge(endpoint.url)
        step.preflight()
        step.setup()
        result = step(pairs(picture(0), picture(1), references=2))
    assert result.rejected.num_rows == 0
    assert result.kept["judge_scores"].to_pylist() == [[("instruction_following", 5.0), ("naturalness", 4.0)]] * 2
    evidence = json.loads(result.kept["judge_evidence"][0].as_py())
    prompt = Path(load_prompt.__globals__["__file__"]).parent / "prompts" / "imgedit_scores.v1.yaml"
    assert evidence == {
        "model": "tiny-vlm",
        "prompt": "imgedit_scores",
        "prompt_version": 1,
        "prompt_sha256": hashlib.sha256(prompt.read_bytes()).hexdigest(),
        "reply": REPLY,
    }
    added = set(result.kept.column_names) - set(EDIT_PAIR.fields.names)
    assert added - {"model_tokens"} <= set(EDIT_SAMPLE.fields.names)
    system, user = endpoint.requests[0]["messages"]
    assert system["content"] == PROMPT.system
    text, *images = user["content"]
    assert "make the cup blue" in text["text"] and "{" not in text["text"]
    sent = [base64.b64decode(part["image_url"]["url"].partition("base64,")[2]) for part in images]
    assert sent[:2] == [picture(200), picture(201)] and sent[2] in (picture(0), picture(1))


def test_scores_from_elsewhere_stay_and_older_ones_of_the_same_name_go() -> None:
    with serve(good=REPLY) as endpoint:
        table = pairs(picture(0))
        before = pa.array([[("clip", 0.25), ("naturalness", 1.0)]], EDIT_SAMPLE.fields.field("judge_scores").type)
        result = judge(endpoint.url)(table.append_column("judge_scores", before))
    [scores] = result.kept["judge_scores"].to_pylist()
    assert dict(scores) == {"clip": 0.25, "naturalness": 4.0, "instruction_following": 5.0}


UNPARSED = [
    "",
    "The edit is good.",
    "Score 1: 5",
    "Score 1: 5\nScore 2: four",
    "Score 1: 5\nScore 2: 4.5",
    "Score 1: 5\nScore 2: 4/5",
    "Score 1: 5\nScore 2: 3-4",
    "Score 1: 5\nScore 2: 4 or 5",
    "Score 1: 5\nScore 2: 0",
    "Score 1: 5\nScore 2: 6",
    "Score 1: 5\nScore 2: -4 points",
    "Score 1: 5\nScore 2: 4\nScore 2: 3",
    "Score 1: 5\nScore 2:",
    "Score 1: 5, Score 2: 4",
    '{"Score 1": 5, "Score 2": 4}',
    "Score 1: 5\nScore 2: ٤",
]


@pytest.mark.parametrize("text", UNPARSED)
def test_what_is_no_score_is_never_a_number(text: str) -> None:
    with pytest.raises(ReplyFault) as caught:
        read_scores(Reply(text, "stop"), PROMPT)
    assert caught.value.reason == "judge_unparsed"


@pytest.mark.parametrize(
    "text",
    [
        REPLY,
        "score 1: 5\r\nscore 2: 4\r\n",
        "**Score 1:** 5\n**Score 2:** 4",
        "- Score 1: 5 (Following instructions).\n- Score 2: 4 (Naturalness).\nObjects match: True",
        "I would give Score 1: 2 to worse ones.\nScore 2: 4\n\nScore 1: 5.",
    ],
)
def test_labels_on_lines_of_their_own_are_read(text: str) -> None:
    assert read_scores(Reply(text, "stop"), PROMPT) == {"instruction_following": 5, "naturalness": 4}


def test_a_reply_that_was_cut_off_is_unparsed() -> None:
    with pytest.raises(RowRejected, match="ended with 'length'"):
        read_scores(Reply(REPLY, "length"), PROMPT)


def test_every_fault_rejects_its_own_pair_and_no_other() -> None:
    faults = {
        "always_500": "endpoint_error",
        "bad_request": "endpoint_refused",
        "truncated_json": "endpoint_not_json",
        "wrong_schema": "endpoint_wrong_schema",
        "drip_body": "endpoint_timeout",
        "hang_up": "endpoint_error",
        "cut_off": "judge_unparsed",
        "null": "judge_unparsed",
    }
    targets = {picture(number): behaviour for number, behaviour in enumerate(faults)}
    low = {
        picture(60): ("Score 1: 3\nScore 2: 5", "instruction_following_too_low"),
        picture(61): ("Score 1: 4\nScore 2: 1", "naturalness_too_low"),
        picture(62): ("It looks fine to me.", "judge_unparsed"),
    }
    with serve(behaviours=targets, good=REPLY, texts={image: text for image, (text, _) in low.items()}) as endpoint:
        table = pairs(picture(50), *targets, None, *low, b"no image", picture(51))
        result = judge(endpoint.url, backend={"timeout_s": 2.0, "concurrency": 16})(table)
    expected = [None, *faults.values(), "image_missing", *(reason for _, reason in low.values())]
    expected += ["image_format_unknown", None]
    assert reasons(result) == [
        (key, reason) for key, reason in zip(table["key"].to_pylist(), expected, strict=True) if reason
    ]
    assert result.kept.num_rows == 2
    OUTCOME.check(result.rejected)
    by_reason = dict(zip(result.rejected["reason"].to_pylist(), result.rejected["evidence"].to_pylist(), strict=True))
    assert json.loads(by_reason["naturalness_too_low"])["judge_scores"] == {
        "instruction_following": 4,
        "naturalness": 1,
    }


@pytest.mark.parametrize("repairs", [0, 2])
def test_a_reply_without_scores_is_asked_for_again_a_bounded_number_of_times(repairs: int) -> None:
    wordy, never = picture(0), picture(1)
    with serve(behaviours={wordy: "once_faulty"}, good=REPLY, texts={never: "It looks fine to me."}) as endpoint:
        result = judge(endpoint.url, max_repairs=repairs)(pairs(wordy, never, picture(2)))
    assert len(endpoint.requests) == 3 + (1 + repairs if repairs else 0)
    refused = dict(zip(result.rejected["key"].to_pylist(), result.rejected["evidence"].to_pylist(), strict=True))
    assert set(result.rejected["reason"].to_pylist()) == {"judge_unparsed"}
    assert len(refused) == (1 if repairs else 2)
    evidence = json.loads(refused[pairs(wordy, never)["key"][1].as_py()])
    assert evidence["reply"] == "It looks fine to me."
    assert evidence["prompt_tokens"] == 100 * (1 + repairs), "all replies to a pair are counted"
    used = [[entry["prompt_tokens"] for entry in row] for row in result.kept["model_tokens"].to_pylist()]
    assert used == ([[200], [100]] if repairs else [[100]])
    if repairs:
        asked_again = [one["messages"] for one in endpoint.requests if len(one["messages"]) == 4]
        assert all("no line 'Score 1: NUMBER'" in messages[3]["content"] for messages in asked_again)


def test_bounds_and_prompts_are_checked_before_any_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no score of the prompt imgedit_scores"):
        judge("http://one/v1", least={"beauty": 3})
    with pytest.raises(ConfigError, match="must be from 1 to 5"):
        judge("http://one/v1", least={"naturalness": 6})
    own = tmp_path / "mine.v2.yaml"
    text = "name: mine\nversion: 2\nuser: 'Judge: {instruction}'\nscores: {quality: Quality}\nhighest: 10\n"
    own.write_text(text)
    step = judge("http://one/v1", prompt=str(own), least={"quality": 7})
    assert step.fingerprint() != judge("http://one/v1").fingerprint()
    assert step.fingerprint() == judge("http://two/v1", prompt=str(own), least={"quality": 7}).fingerprint()
    assert read_scores(Reply("Quality: 10", "stop"), step._prompt.file) == {"quality": 10}
    own.write_text(text.replace("{instruction}", "it"))
    with pytest.raises(ConfigError, match=r"must hold \{instruction\}"):
        judge("http://one/v1", prompt=str(own), least={})
    with pytest.raises(InputError):
        judge("http://one/v1", prompt=str(tmp_path / "none.v1.yaml"))


@pytest.mark.slow
def test_a_real_model_in_this_process_looks_at_every_image_and_its_noise_is_no_score(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from unified_model.tiny import build_tiny

    folder = tmp_path_factory.mktemp("judge") / "tiny"
    build_tiny(seed=0).save_pretrained(folder)
    local = {"kind": "transformers", "model": str(folder / "vlm"), "device": "cpu", "batch_size": 3}
    config = parse_config(
        JudgeConfig, {"backend": local, "max_new_tokens": 16, "max_side": 56, "max_repairs": 0}, "judge"
    )
    step = Judge(config)
    step.preflight()
    step.setup()
    seen: list[int] = []

    def note_images(module: Any, positional: Any, named: dict[str, Any]) -> None:
        seen.append(len(named["grid_thw"]))

    tower: Any = step.asker.inner._model.model.visual  # type: ignore[attr-defined]
    watching = tower.register_forward_pre_hook(note_images, with_kwargs=True)
    one, two = pairs(picture(0), b"no image"), pairs(picture(1), references=2)
    two = two.set_column(0, "key", pa.array(["f" * 32]))
    result = step(pa.concat_tables([one, two]))
    watching.remove()
    assert result.rejected["reason"].to_pylist() == ["judge_unparsed", "image_format_unknown", "judge_unparsed"]
    assert seen == [5], "one reference and the target, then two references and the target, in one batch"
