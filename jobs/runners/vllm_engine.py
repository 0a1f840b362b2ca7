"""vLLM as `ray.data.llm` runs it: questions in, replies out, streamed; the engines live in actors of Ray's own.

Written against the documented interface of ray 2.60 (`vLLMEngineProcessorConfig`, `build_processor`). The columns that
it takes and gives are named here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import ray.data
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from jobs.runners.answer_ahead import Questions
from pipelines.vlm.backend import Reply
from pipelines.vlm.config import GenerationConfig, VLLMConfig
from schemas.errors import ContractError

_ERROR = "__inference_error__"
"""Column in which `ray.data.llm` tells why a row has no reply; empty where it has one."""
_QUESTIONS_A_BLOCK = 16
"""Questions of a block: they carry images."""


def ask_vllm(config: GenerationConfig, questions: Sequence[Questions]) -> Iterator[tuple[str, Reply]]:
    """Answer all questions; an `Engine`."""
    backend = config.backend
    if not isinstance(backend, VLLMConfig):
        raise ContractError("backend.kind", backend.kind, "must be vllm", "Report this defect.")
    processor = build_processor(processor_config(backend), preprocess=EngineRow(config), postprocess=reply_row)
    yield from replies(processor(question_rows(questions)).iter_rows(), config.max_new_tokens)


def processor_config(backend: VLLMConfig) -> vLLMEngineProcessorConfig:
    """The engines that a config asks for. One row's failure never ends the job."""
    engine = dict(backend.engine)
    if backend.revision:
        engine["revision"] = backend.revision
    return vLLMEngineProcessorConfig(
        model_source=backend.model,
        engine_kwargs=engine,
        batch_size=backend.batch_size,
        concurrency=backend.replicas,
        accelerator_type=backend.accelerator,
        prepare_multimodal_stage={"enabled": True},
        should_continue_on_error=True,
    )


def question_rows(questions: Sequence[Questions]) -> Any:
    """A dataset with a row for each question: `key`, and `question` as JSON."""
    numbers = [{"number": number} for number in range(len(questions))]
    # Untyped: Ray's own annotations of map_batches admit no further arguments.
    data: Any = ray.data.from_items(numbers, override_num_blocks=len(numbers))
    return data.map_batches(_rows_of, fn_args=(list(questions),), batch_size=1, num_cpus=1)


class EngineRow:
    """From a question's row to what the engine's stages read: `messages` and `sampling_params`.

    Args:
        config: of the step that asks.
    """

    def __init__(self, config: GenerationConfig) -> None:
        self._config = config

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns for one row."""
        question = json.loads(row["question"])
        sampling: dict[str, Any] = {
            "max_tokens": self._config.max_new_tokens,
            "temperature": self._config.temperature,
        }
        backend = self._config.backend
        if question["schema"] is not None and isinstance(backend, VLLMConfig) and backend.impose_schema:
            # As text, so that no row's schema is mixed with another's on the way.
            sampling["structured_outputs"] = {"json": json.dumps(question["schema"])}
        return {"messages": question["messages"], "sampling_params": sampling}


def reply_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of the engine's columns."""
    return {
        "key": row["key"],
        "text": row["generated_text"],
        "prompt_tokens": row["num_input_tokens"],
        "completion_tokens": row["num_generated_tokens"],
    }


def replies(rows: Iterable[Mapping[str, Any]], max_new_tokens: int) -> Iterator[tuple[str, Reply]]:
    """Key and reply of each row that the engine gives back.

    The engine does not say why it stopped; a reply of `max_new_tokens` tokens counts as cut off. What it could not
    answer is a reply with the finish reason "error" and the engine's words as text, so that its row is rejected.
    """
    for row in rows:
        if row.get(_ERROR):
            yield row["key"], Reply(str(row[_ERROR]), "error", 0, 0)
            continue
        written = int(row["completion_tokens"])
        reason = "length" if written >= max_new_tokens else "stop"
        yield row["key"], Reply(row["text"], reason, int(row["prompt_tokens"]), written)


def _rows_of(batch: Mapping[str, Any], questions: Sequence[Questions]) -> Iterator[dict[str, list[str]]]:
    for number in batch["number"]:
        asked = questions[int(number)]()
        while block := list(islice(asked, _QUESTIONS_A_BLOCK)):
            yield {
                "key": [one.key for one in block],
                "question": [json.dumps({"messages": one.messages, "schema": one.schema}) for one in block],
            }
