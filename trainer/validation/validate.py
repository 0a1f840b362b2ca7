"""One validation: both sets of weights in turn, losses and edits, and what is written of them."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image
from torch import nn

from schemas.atomic import write_bytes, write_whole
from trainer.checkpoints.ema import ShardedEma
from trainer.config import TrainConfig
from trainer.config.validation import ValidationConfig
from trainer.data.shards import ShardIndex
from trainer.distributed import Ranks
from trainer.run_folder import VALIDATION
from trainer.validation.as_found import as_found
from trainer.validation.averaged import averaged_weights
from trainer.validation.copying import Picture
from trainer.validation.edits import Edit, EditFigures, edit_summary, held_out_edits
from trainer.validation.held_out import HeldOut
from trainer.validation.held_out_loss import Predict, held_out_rows
from trainer.validation.judges import Judges
from trainer.validation.loss_rows import LossRow, instruction_gain, loss_figures, loss_table
from trainer.validation.strip import strip
from unified_model.model import UnifiedEditModel

LOSS_FILE = "loss.parquet"
OTHER_INSTRUCTION_FILE = "loss-other-instruction.parquet"
EDITS_FILE = "edits.jsonl"
OUTPUTS = "outputs"
"""Folder of the edited images by themselves, KEY-seed-SEED-WEIGHTS.png."""


@dataclass(frozen=True)
class Outcome:
    """What one validation came to.

    Args:
        figures: `raw/loss`, `ema/loss_inside_under_1`, `raw/copy_rate` and so on; see `loss_figures`,
            `instruction_gain` and `edit_summary`.
        rows: the held-out losses.
        other_rows: those of the samples that were also taken with another sample's instruction.
        edits: the edits, those of one sample and seed beside each other.
    """

    figures: dict[str, float]
    rows: list[LossRow] = field(default_factory=list)
    other_rows: list[LossRow] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)


class Validation:
    """Validates a run's model from time to time; training goes on as though it had not."""

    def __init__(
        self,
        index: ShardIndex,
        config: TrainConfig,
        validation: ValidationConfig,
        model: UnifiedEditModel,
        ranks: Ranks,
    ) -> None:
        """Choose and check the held-out samples. A collective.

        Args:
            index: the samples to choose from (`open_held_out`).

        Raises:
            InputError: the same on every rank: no sample can be read, or a judge's weights are not there.
        """
        self.config = validation
        self._judges = ranks.together(lambda: Judges.load(validation, ranks.device))
        self.held_out = HeldOut(index, config, validation, model.processor, ranks)
        self._steps = config.steps
        self._model = model
        self._ranks = ranks

    def is_due(self, step: int) -> bool:
        """Whether to validate once `step` optimizer steps are done."""
        if step == 0:
            return self.config.at_start
        return step % self.config.every == 0 or step == self._steps

    def next_after(self, step: int) -> int | None:
        """The step of the next validation after `step`; None where there is none."""
        following = (step // self.config.every + 1) * self.config.every
        return None if step >= self._steps else min(following, self._steps)

    def run(self, predict: Predict, parameters: Mapping[str, nn.Parameter], ema: ShardedEma | None) -> Outcome:
        """Validate now. A collective; the outcome is the same on every rank.

        Args:
            predict: the engine around the model's core.
            parameters: the trainable ones by name, as the engine holds them.
            ema: their average; without one only the raw weights are validated.
        """
        outcome = Outcome({})
        edits: list[list[Edit]] = []
        with as_found(self._model, self._ranks.device):
            for weights in ("raw", "ema"):
                takes_loss = weights in _of(self.config.loss_weights, ema) and bool(self.held_out.loss_samples)
                takes_edits = weights in _of(self.config.edit_weights, ema) and bool(self.held_out.edit_samples)
                if not takes_loss and not takes_edits:
                    continue
                with _in_force(weights, parameters, ema, self._ranks):
                    if takes_loss:
                        rows = self._losses(predict, weights)
                        outcome.rows.extend(rows)
                        others = self._losses_of_other_instructions(predict, weights)
                        outcome.other_rows.extend(others)
                        outcome.figures.update(_named(weights, loss_figures(rows) | instruction_gain(rows, others)))
                    if takes_edits:
                        found = held_out_edits(
                            self.held_out, self._model, self.config, self._ranks, weights, self._judges
                        )
                        edits.append(found)
                        summary = edit_summary([edit.figures for edit in found])
                        outcome.figures.update(_named(weights, summary))
        outcome.edits.extend(edit for pair in zip(*edits, strict=True) for edit in pair)
        return outcome

    def _losses(self, predict: Predict, weights: str) -> list[LossRow]:
        config = self.config
        return held_out_rows(
            self.held_out, self._model, predict, self._ranks, weights, config.noise_seed, config.levels_at_once
        )

    def _losses_of_other_instructions(self, predict: Predict, weights: str) -> list[LossRow]:
        config = self.config
        return held_out_rows(
            self.held_out,
            self._model,
            predict,
            self._ranks,
            weights,
            config.noise_seed,
            config.levels_at_once,
            numbers=self.held_out.loss_samples[: config.other_instructions],
            other_instruction=True,
        )


def write(outcome: Outcome, held_out: HeldOut, run: Path, step: int) -> dict[str, Picture]:
    """Write `validation/step-000100/` of a run: rows of loss, figures of the edits, edited images, strips. Call on one
    rank.

    Returns:
        The strips, by names that sort in the order of the samples and stay from step to step.

    Raises:
        InputError: a sample cannot be read any more.
        OutputError: the folder cannot be written.
    """
    folder = step_folder(run, step)
    shutil.rmtree(folder, ignore_errors=True)
    if outcome.rows:
        with write_whole(folder / LOSS_FILE) as stream:
            pq.write_table(loss_table(outcome.rows, step), stream)
    if outcome.other_rows:
        with write_whole(folder / OTHER_INSTRUCTION_FILE) as stream:
            pq.write_table(loss_table(outcome.other_rows, step), stream)
    strips = _strips(outcome.edits, held_out)
    for name, picture in strips.items():
        write_bytes(folder / f"{name}.png", _png(picture))
    for edit in outcome.edits:
        write_bytes(folder / OUTPUTS / output_name(edit.figures), _png(edit.output))
    if outcome.edits:
        lines = [json.dumps(edit.figures.as_row(), ensure_ascii=False) for edit in outcome.edits]
        write_bytes(folder / EDITS_FILE, ("\n".join(lines) + "\n").encode())
    return strips


def output_name(figures: EditFigures) -> str:
    """The file of an edited image, below `OUTPUTS`."""
    return f"{figures.key}-seed-{figures.seed}-{figures.weights}.png"


def _png(picture: Picture) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG")
    return encoded.getvalue()


def _strips(edits: Sequence[Edit], held_out: HeldOut) -> dict[str, Picture]:
    groups: dict[tuple[int, int], list[Edit]] = {}
    for edit in edits:
        groups.setdefault((edit.number, edit.figures.seed), []).append(edit)
    pictures = {}
    for place, ((number, seed), group) in enumerate(groups.items()):
        sample = held_out.read(number)
        pictures[strip_name(place, sample.key, seed)] = strip(sample, group)
    return pictures


def headlines(figures: Mapping[str, float]) -> list[str]:
    """The few figures that a terminal has room for: a line for each set of weights."""
    names = {"loss": "loss", "loss_inside": "inside", "loss_outside": "outside", "loss_border": "border"}
    lines = []
    for weights in ("raw", "ema"):
        told = [
            f"{short} {figures[f'{weights}/{name}']:.4f}"
            for name, short in names.items()
            if f"{weights}/{name}" in figures
        ]
        if f"{weights}/copy_rate" in figures:
            told.append(f"copies {100 * figures[f'{weights}/copy_rate']:.0f} %")
        if told:
            lines.append(f"  {weights}  {'  '.join(told)}")
    return lines


def strip_name(place: int, key: str, seed: int) -> str:
    """The name of a strip, without its suffix; `place` counts the pairs of sample and seed."""
    return f"{place:02d}-{key[:12]}-seed-{seed}"


def step_folder(run: Path, step: int) -> Path:
    """Where the validation of a step lies."""
    return run / VALIDATION / f"step-{step:06d}"


def forget_after(run: Path, step: int) -> None:
    """Delete the validations of later steps, which a run that goes on from `step` does again."""
    for folder in (run / VALIDATION).glob("step-*"):
        if int(folder.name.removeprefix("step-")) > step:
            shutil.rmtree(folder)


def _of(weights: Sequence[str], ema: ShardedEma | None) -> set[str]:
    return set(weights) if ema is not None else {"raw"}


def _named(weights: str, figures: Mapping[str, float]) -> dict[str, Any]:
    return {f"{weights}/{name}": value for name, value in figures.items()}


@contextmanager
def _in_force(
    weights: str, parameters: Mapping[str, nn.Parameter], ema: ShardedEma | None, ranks: Ranks
) -> Iterator[None]:
    if weights == "raw" or ema is None:
        yield
        return
    with averaged_weights(parameters, ema, ranks):
        yield
