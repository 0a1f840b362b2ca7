"""From questions about rows to kept and rejected rows, the same for every step that asks a model for text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa

from pipelines.step import set_column
from pipelines.vlm.asker import Asker
from pipelines.vlm.backend import Reply, Request
from pipelines.vlm.prompt_files import Prompt
from pipelines.vlm.repair import Answer, RepairConfig, ask_until_read
from schemas.errors import RowRejected
from schemas.outcomes import rejections
from schemas.records import CAPTION_TYPE

CAPTIONS = pa.field("captions", pa.list_(CAPTION_TYPE))
MODEL_TOKENS = pa.field(
    "model_tokens",
    pa.list_(
        pa.struct(
            [
                pa.field("step", pa.string()),
                pa.field("prompt_tokens", pa.int64()),
                pa.field("completion_tokens", pa.int64()),
            ]
        )
    ),
)
"""What each step that asked a model used up for the row: tokens of all replies, wherever they were kept meanwhile."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class AnsweredRows(Generic[Value]):
    """A table after its rows were asked about.

    Args:
        table: the rows that go on.
        values: what was read for each of them; None for a row that was not asked about.
        tokens: prompt and completion tokens of each.
        rejected: outcomes of the others.
    """

    table: pa.Table
    values: tuple[Value | None, ...]
    tokens: tuple[tuple[int, int], ...]
    rejected: pa.Table


def ask_about_rows(
    step: tuple[str, int],
    table: pa.Table,
    requests: Sequence[Request | RowRejected | None],
    asker: Asker,
    read: Callable[[Reply], Value],
    max_repairs: int,
) -> AnsweredRows[Value]:
    """Ask about each row that has a request, and sort the rows by what came of it.

    Args:
        step: name and version, for the outcomes.
        requests: one a row; None for a row that goes on as it is.
        read, max_repairs: as for `ask_until_read`.

    Raises:
        EditmillError: as `Asker.ask`.
    """
    asked = [request for request in requests if isinstance(request, Request)]
    answers = iter(ask_until_read(asker, asked, read, max_repairs))
    kept: list[int] = []
    values: list[Value | None] = []
    tokens: list[tuple[int, int]] = []
    refused: list[tuple[str, RowRejected]] = []
    for position, request in enumerate(requests):
        answer: Answer[Any] = next(answers) if isinstance(request, Request) else Answer(request)
        if isinstance(answer.value, RowRejected):
            refused.append((table["key"][position].as_py(), answer.value))
            continue
        kept.append(position)
        values.append(answer.value)
        tokens.append((answer.prompt_tokens, answer.completion_tokens))
    outcomes = rejections(
        *step,
        [key for key, _ in refused],
        [rejection.reason for _, rejection in refused],
        [rejection.sentence for _, rejection in refused],
        evidence=[rejection.evidence for _, rejection in refused],
    )
    rest = table.take(pa.array(kept, pa.int64())) if refused else table
    return AnsweredRows(rest, tuple(values), tuple(tokens), outcomes)


def written_by(config: RepairConfig, prompt: Prompt[Any]) -> dict[str, Any]:
    """The part of a `CAPTION_TYPE` that tells what wrote a text."""
    return {
        "model": config.backend.model_name(),
        "prompt": prompt.file.name,
        "prompt_version": prompt.file.version,
        "prompt_sha256": prompt.sha256,
    }


def append_captions(table: pa.Table, new: Sequence[Sequence[dict[str, Any]]]) -> pa.Table:
    """`table` with `new` behind the captions that each row has."""
    return _append(table, CAPTIONS, new)


def append_tokens(table: pa.Table, step: str, tokens: Sequence[tuple[int, int]]) -> pa.Table:
    """`table` with what the step used for each row behind what other steps used; nothing for a row it did not ask."""
    new = [
        [{"step": step, "prompt_tokens": prompt, "completion_tokens": completion}] if prompt or completion else []
        for prompt, completion in tokens
    ]
    return _append(table, MODEL_TOKENS, new)


def _append(table: pa.Table, field: pa.Field, new: Sequence[Sequence[dict[str, Any]]]) -> pa.Table:
    before = table[field.name].to_pylist() if field.name in table.column_names else [None] * table.num_rows
    joined = [[*(known or []), *more] for known, more in zip(before, new, strict=True)]
    return set_column(table, field, pa.array(joined, field.type))
