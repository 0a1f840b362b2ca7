"""vLLM asked ahead of a step. vLLM itself is not run here: a stand-in takes its place as a stage inside the very
processor of `ray.data.llm`, takes the columns that its engine stage takes and gives those that it gives."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.config import PipelineConfig
from jobs.pipeline import run_pipeline
from jobs.registry import make_step
from jobs.runners import vllm_engine
from jobs.runners.answer_ahead import Questions, asks_vllm
from jobs.runners.vllm_engine import EngineRow, processor_config, question_rows, replies, reply_row
from pipelines.recaption import RecaptionConfig
from pipelines.vlm.answered_before import AnsweredBefore
from pipelines.vlm.backend import Reply, Request
from pipelines.vlm.config import GenerationConfig, VLLMConfig
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError

COUNT = 6
BOTH = {"short": "A plain grey square.", "long": "A plain grey square fills the whole of the picture."}


def backend(**values: Any) -> dict[str, Any]:
    return {"kind": "vllm", "model": "org/model", **values}


def config(tmp_path: Path, **values: Any) -> RecaptionConfig:
    return parse_config(RecaptionConfig, {"backend": backend(), "cache": str(tmp_path), **values}, "recaption")


def test_the_config_becomes_that_of_the_engines() -> None:
    given = parse_config(
        VLLMConfig,
        backend(engine={"max_model_len": 8192, "tensor_parallel_size": 2}, revision="abc", replicas=3, batch_size=32),
        "backend",
    )
    engine = processor_config(given)
    assert engine.model_source == "org/model" and engine.concurrency == 3 and engine.batch_size == 32
    assert engine.engine_kwargs["max_model_len"] == 8192 and engine.engine_kwargs["tensor_parallel_size"] == 2
    assert engine.engine_kwargs["revision"] == "abc"
    assert engine.should_continue_on_error is True and engine.prepare_multimodal_stage == {"enabled": True}


def test_rows_go_to_the_engine_and_come_back(tmp_path: Path) -> None:
    asked = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}]}],
        "schema": {"type": "object"},
    }
    row = EngineRow(config(tmp_path, max_new_tokens=7))({"key": "k", "question": json.dumps(asked)})
    sampling = {"max_tokens": 7, "temperature": 0.0, "structured_outputs": {"json": '{"type": "object"}'}}
    assert row == {"messages": asked["messages"], "sampling_params": sampling}
    free = EngineRow(config(tmp_path, backend=backend(impose_schema=False)))({"question": json.dumps(asked)})
    assert "structured_outputs" not in free["sampling_params"]
    back = [
        reply_row({"key": "a", "generated_text": "Yes.", "num_input_tokens": 5, "num_generated_tokens": 2, "more": 1}),
        reply_row({"key": "b", "generated_text": "Y", "num_input_tokens": 5, "num_generated_tokens": 7}),
        {"key": "c", "__inference_error__": "ValueError: the prompt is longer than the model's context"},
    ]
    assert dict(replies(back, 7)) == {
        "a": Reply("Yes.", "stop", 5, 2),
        "b": Reply("Y", "length", 5, 7),
        "c": Reply("ValueError: the prompt is longer than the model's context", "error", 0, 0),
    }


def test_what_is_missing_is_said_before_any_row(tmp_path: Path) -> None:
    step = make_step("recaption", {"backend": backend(), "cache": str(tmp_path)}, "here")
    assert asks_vllm(step)
    if vllm_is_missing():
        with pytest.raises(InputError, match=r"needs the package vllm.*\.\[vllm\]"):
            step.preflight()
    pipeline = {"name": "p", "output": str(tmp_path / "run"), "source": {"image_records_parquet": {"paths": ["x"]}}}
    pipeline["steps"] = [{"recaption": {"backend": backend()}}]
    with pytest.raises(ConfigError, match="needs the runner ray"):
        run_pipeline(parse_config(PipelineConfig, pipeline, "p"))
    with pytest.raises(InputError, match="was not asked ahead"):
        step.asker.ask([Request("", ("Without an image.",))])  # type: ignore[attr-defined]


def vllm_is_missing() -> bool:
    from importlib.util import find_spec

    return find_spec("vllm") is None


def stand_in(given: GenerationConfig, questions: Sequence[Questions]) -> Iterator[tuple[str, Reply]]:
    """`ask_vllm` with another stage in the engine's place."""
    from ray.llm._internal.batch.processor import Processor
    from ray.llm._internal.batch.stages.base import StatefulStage, StatefulStageUDF

    class EngineUDF(StatefulStageUDF):
        async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
            for row in batch:
                user = next(message for message in row["messages"] if message["role"] == "user")
                urls = [part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url"]
                said = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
                out = {self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN], "__inference_error__": ""}
                text = json.dumps(BOTH)
                image = Image.open(io.BytesIO(base64.b64decode(urls[0].partition("base64,")[2])))
                if image.height in (16, 18) and not said:
                    text = "A."
                yield {**out, "generated_text": text, "num_input_tokens": 50, "num_generated_tokens": 9}

    class EngineStage(StatefulStage):
        fn: Any = EngineUDF

        def get_required_input_keys(self) -> dict[str, str]:
            return {"messages": "as for vLLM's engine stage"}

    assert isinstance(given.backend, VLLMConfig)
    stage = EngineStage(map_batches_kwargs={"concurrency": 1, "zero_copy_batch": True})
    engine = processor_config(given.backend)
    processor = Processor(engine, [stage], preprocess=EngineRow(given), postprocess=reply_row)
    rounds.append(len(questions))
    yield from replies(processor(question_rows(questions)).iter_rows(), given.max_new_tokens)


rounds: list[int] = []
"""Partitions with open questions in each round."""


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_run_asks_ahead_in_rounds_and_finds_every_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.png" for number in range(COUNT)]
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 256, (16 + number, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / names[-1]).write_bytes((tmp_path / names[-1]).read_bytes()[:60])
    pq.write_table(pa.table({"url": names, "caption": names}), tmp_path / "metadata.parquet", row_group_size=2)
    pipeline = parse_config(
        PipelineConfig,
        {
            "name": "ahead",
            "output": str(tmp_path / "run"),
            "source": {
                "image_records_parquet": {"paths": [str(tmp_path / "metadata.parquet")], "rows_per_partition": 2}
            },
            "steps": [{"local_images": {"root": str(tmp_path)}}, {"recaption": {"backend": backend()}}],
            "runner": {"kind": "ray", "workers": 2, "object_store_mib": 200},
        },
        "ahead",
    )
    monkeypatch.setattr(AnsweredBefore, "preflight", lambda self: None)
    monkeypatch.setattr(vllm_engine, "ask_vllm", stand_in)
    report = run_pipeline(pipeline)
    assert report.kept == COUNT - 1 and report.counts[-1].rejected == {"image_truncated": 1}
    table = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "run" / "records").iterdir())])
    for row in table["captions"].to_pylist():
        assert {caption["kind"]: caption["text"] for caption in row} == BOTH
        assert {caption["model"] for caption in row} == {"org/model"}
    [cost] = report.costs
    asked_again = sum(used[0]["prompt_tokens"] == 100 for used in table["model_tokens"].to_pylist())
    assert asked_again == 2 and rounds == [3, 2]
    assert cost.requests == COUNT - 1 + asked_again and cost.prompt_tokens == 50 * cost.requests
    step = next(one for one in report.counts if one.name == "recaption")
    assert step.figures == {"replies_from_cache": cost.requests}


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_processor_of_ray_is_made_of_the_stages_that_the_columns_are_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    pytest.importorskip("transformers")
    import ray
    from ray.data.llm import build_processor

    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VL"]}')
    given = config(tmp_path, backend=backend(model=str(tmp_path)))
    ray.init("local", num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    try:
        processor = build_processor(processor_config(given.backend), preprocess=EngineRow(given), postprocess=reply_row)
        stages = [name.lower() for name in processor.list_stage_names()]
        first = next(iter(processor.stages.values()))
        assert set(first.get_required_input_keys()) == {"messages"}
    finally:
        ray.shutdown()
    for position, part in enumerate(("multimodal", "template", "token", "engine", "token")):
        assert part in stages[position], stages
