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
from pipelines.vlm.rows import MODEL_TOKENS, append_tokens, ask_about_rows
from schemas.atomic import canonical_json
from schemas.config import Config
from schemas.errors import ConfigError, RowRejected
from schemas.records import EDIT_SAMPLE

_SCORES = EDIT_SAMPLE.fields.field("judge_scores")
_EVIDENCE = EDIT_SAMPLE.fields.field("judge_evidence")


class Judge(AskingStep[JudgeConfig, JudgePrompt]):
    """Shows the references and the target to a model, and adds its scores to `judge_scores`.

    Reasons: `judge_unparsed` (no reply held scores, asked again or not), `SCORE_too_low` (under the config's
    `least`), `reference_missing`, `image_missing`, those of `schemas.images`, and those of the backend
    (`endpoint_...`).
    """

    name: ClassVar[str] = "judge"
    version: ClassVar[int] = 2
    config_class: ClassVar[type[Config]] = JudgeConfig
    needs: ClassVar[tuple[str, ...]] = ("references", "target", "instruction")
    adds: ClassVar[pa.Schema] = pa.schema([_SCORES, _EVIDENCE, MODEL_TOKENS])

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
        answered = ask_about_rows(
            (self.name, self.version),
            table,
            [self._request(table, position) for position in range(table.num_rows)],
            self.asker,
            self._read,
            self.config.max_repairs,
        )
        result = answered.table
        scores, evidence = [], []
        for position, value in enumerate(answered.values):
            given, said = value or ({}, "")
            scores.append(list({**_scores_before(result, position), **given}.items()))
            evidence.append(said)
        result = set_column(result, _SCORES, pa.array(scores, _SCORES.type))
        result = set_column(result, _EVIDENCE, pa.array(evidence, _EVIDENCE.type))
        result = append_tokens(result, self.name, answered.tokens)
        return StepResult(result, answered.rejected, figures=self.asker.figures())

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

    def _read(self, reply: Reply) -> tuple[dict[str, int], str]:
        """Scores, and what gave them as JSON."""
        scores = read_scores(reply, self._prompt.file)
        evidence = {
            "model": self.config.backend.model_name(),
            "prompt": self._prompt.file.name,
            "prompt_version": self._prompt.file.version,
            "prompt_sha256": self._prompt.sha256,
            "reply": reply.text.strip(),
        }
        for name, least in self.config.least.items():
            if scores[name] < least:
                raise RowRejected(
                    f"{name}_too_low",
                    f"the judge gives {scores[name]} for {name}, under the minimum {least}",
                    {"judge_scores": scores, "judge_evidence": evidence},
                )
        return scores, canonical_json(evidence)


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
