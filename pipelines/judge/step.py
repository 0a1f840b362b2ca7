"""The step `judge`: scores of each edit pair from a vision-language model, and the least they must reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from pipelines.judge.config import JudgeConfig
from pipelines.judge.prompt import JudgePrompt, load_prompt
from pipelines.judge.reading import read_scores
from pipelines.step import StepResult, set_column
from pipelines.vlm.asking_step import AskingStep
from pipelines.vlm.backend import Reply, Request
from pipelines.vlm.images import encoded_bytes
from schemas.atomic import canonical_json
from schemas.config import Config
from schemas.errors import ConfigError, RowRejected
from schemas.outcomes import rejections
from schemas.records import EDIT_SAMPLE

_SCORES = EDIT_SAMPLE.fields.field("judge_scores")
_EVIDENCE = EDIT_SAMPLE.fields.field("judge_evidence")


class Judge(AskingStep[JudgeConfig, JudgePrompt]):
    """Shows the references and the target to a model, and adds its scores to `judge_scores`.

    Reasons: `judge_unparsed` (the reply holds no scores), `SCORE_too_low` (under the config's `least`),
    `reference_missing`, `image_missing`, those of `schemas.images`, and those of the backend (`endpoint_...`).
    """

    name: ClassVar[str] = "judge"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = JudgeConfig
    needs: ClassVar[tuple[str, ...]] = ("references", "target", "instruction")
    adds: ClassVar[pa.Schema] = pa.schema([_SCORES, _EVIDENCE])

    def __init__(self, config: JudgeConfig) -> None:
        """Load the prompt.

        Raises:
            ConfigError, InputError: the prompt does not exist or breaks a rule; `least` names no score of it, or a
                bound out of its range.
        """
        super().__init__(config, load_prompt(config.prompt))
        _check_least(config.least, self._prompt.file)

    def process(self, table: pa.Table) -> StepResult:
        """Judge every pair of the batch."""
        requests = [self._request(table, position) for position in range(table.num_rows)]
        replies = iter(self.asker.ask([request for request in requests if isinstance(request, Request)]))
        kept: list[int] = []
        added: list[tuple[list[tuple[str, float]], str]] = []
        refused: list[tuple[str, RowRejected]] = []
        for position, request in enumerate(requests):
            try:
                if isinstance(request, RowRejected):
                    raise request
                added.append(self._judged(next(replies), _scores_before(table, position)))
                kept.append(position)
            except RowRejected as rejection:
                refused.append((table["key"][position].as_py(), rejection))
        result = table.take(pa.array(kept, pa.int64())) if refused else table
        result = set_column(result, _SCORES, pa.array([scores for scores, _ in added], _SCORES.type))
        result = set_column(result, _EVIDENCE, pa.array([evidence for _, evidence in added], _EVIDENCE.type))
        return StepResult(
            result,
            rejections(
                self.name,
                self.version,
                [key for key, _ in refused],
                [rejection.reason for _, rejection in refused],
                [rejection.sentence for _, rejection in refused],
                evidence=[rejection.evidence for _, rejection in refused],
            ),
            figures=self.asker.figures(),
        )

    def _request(self, table: pa.Table, position: int) -> Request | RowRejected:
        """What is asked about one pair: the text, the references in order, the target last."""
        references = table["references"][position]
        images = [encoded_bytes(image) for image in _values(references)]
        target = encoded_bytes(table["target"][position])
        instruction = table["instruction"][position].as_py()
        if not images:
            return RowRejected("reference_missing", "the pair has no reference image")
        if not instruction:
            return RowRejected("instruction_missing", "the pair has no instruction to be judged by")
        present = [image for image in (*images, target) if image is not None]
        if len(present) <= len(images):
            return RowRejected("image_missing", "an image of the pair has no bytes")
        return Request(self._prompt.file.system, (self._prompt.file.asked(instruction), *present))

    def _judged(self, outcome: Reply | RowRejected, before: Mapping[str, float]) -> tuple[list[tuple[str, float]], str]:
        if isinstance(outcome, RowRejected):
            raise outcome
        scores = read_scores(outcome, self._prompt.file)
        evidence = {
            "model": self.config.backend.model_name(),
            "prompt": self._prompt.file.name,
            "prompt_version": self._prompt.file.version,
            "prompt_sha256": self._prompt.sha256,
            "reply": outcome.text.strip(),
        }
        for name, least in self.config.least.items():
            if scores[name] < least:
                raise RowRejected(
                    f"{name}_too_low",
                    f"the judge gives {scores[name]} for {name}, under the minimum {least}",
                    {"judge_scores": scores, "judge_evidence": evidence},
                )
        return list({**before, **scores}.items()), canonical_json(evidence)


def _check_least(least: Mapping[str, int], prompt: JudgePrompt) -> None:
    for name, bound in least.items():
        if name not in prompt.scores:
            known = ", ".join(prompt.scores)
            raise ConfigError("judge.least", name, f"is no score of the prompt {prompt.name}", f"Its scores: {known}.")
        if not prompt.lowest <= bound <= prompt.highest:
            rule = f"must be from {prompt.lowest} to {prompt.highest}, the prompt's scale"
            raise ConfigError(f"judge.least.{name}", bound, rule, "Give the bound on that scale.")


def _values(value: pa.ListScalar) -> Iterator[Any]:
    return iter(value.values if value.is_valid else ())


def _scores_before(table: pa.Table, position: int) -> dict[str, float]:
    """Scores that the row has from elsewhere, which stay."""
    if _SCORES.name not in table.column_names:
        return {}
    return dict(table[_SCORES.name][position].as_py() or ())
