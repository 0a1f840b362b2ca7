"""The runs of an ablation: one training config for each arm and seed, and what tells that a run is done."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.ablation.config import AblationConfig
from schemas.config import parse_config
from schemas.errors import ConfigError
from trainer.config import TrainConfig, load_train_config
from trainer.run_folder import CONFIG, VALIDATION
from trainer.validation.validate import LOSS_FILE

FREE = ("checkpoints", "logging", "hardware", "data.workers")
"""Dotted fields of a training config that change nothing of what a run computes or measures."""


@dataclass(frozen=True)
class Run:
    """One arm with one seed.

    Args:
        config: the training config, checked.
    """

    arm: str
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """For people: "logarithmic, seed 0"."""
        return f"{self.arm}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.config.output)

    @property
    def evaluation(self) -> Path:
        """The folder of the validation at the last step."""
        return self.folder / VALIDATION / f"step-{self.config.steps:06d}"

    @property
    def is_done(self) -> bool:
        """Whether it was trained and evaluated to the end."""
        return (self.evaluation / LOSS_FILE).is_file() and (self.folder / "export").is_dir()


def all_runs(config: AblationConfig, shards: Mapping[str, Path], mean_weights: Mapping[str, float]) -> list[Run]:
    """Every run, seed by seed, so that a sweep that is stopped has compared all arms on the seeds it has done.

    Args:
        shards: name in `config.data` -> packed folder.
        mean_weights: arm -> mean weight, for the arms that others are scaled as.

    Raises:
        ConfigError: a run's training config breaks a rule, measures nothing, or differs from the one that its folder
            was trained with; it names the arm.
    """
    runs = [
        Run(arm, seed, _config_of(config, arm, seed, shards, mean_weights))
        for seed in config.seeds
        for arm in config.all_arms()
    ]
    _check_measured(config, runs[0].config)
    return runs


def check_trained_alike(runs: Sequence[Run]) -> None:
    """Look whether what stands in the runs' folders was trained with these configs.

    Raises:
        ConfigError: a folder was trained with another one.
    """
    for run in runs:
        path = run.folder / CONFIG
        if not path.is_file():
            continue
        changed = next(_changed(run.config.as_json(), load_train_config(path).as_json()), None)
        if changed is not None:
            name, ours, theirs = changed
            raise ConfigError(
                f"{run.name}: {name}",
                ours,
                f"differs from the run in {run.folder}, which had {theirs!r}",
                "Take another output folder, or delete this run's.",
            )


def _changed(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name and both values of every field that decides what a run does or measures."""
    for name in sorted(ours | theirs):
        one, other, dotted = ours.get(name), theirs.get(name), f"{prefix}{name}"
        if dotted in FREE or one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _changed(one, other, f"{dotted}.")
        else:
            yield dotted, one, other


def _check_measured(config: AblationConfig, train: TrainConfig) -> None:
    if train.validation is None or not train.validation.samples:
        raise ConfigError(
            "train.validation", None, "must take held-out samples: they are what is compared", "Give it samples."
        )
    weights = config.primary.weights
    if weights not in train.validation.loss_weights or (weights == "ema" and not train.averages):
        raise ConfigError(
            "primary.weights",
            weights,
            "are not measured: train.validation.loss_weights must hold them, and ema must be enabled for averages",
            "Correct one of them.",
        )


def model_folder(config: AblationConfig, seed: int) -> Path:
    """The model that the runs of a seed begin with."""
    return Path(config.model) if config.model is not None else config.folder / "model" / f"seed-{seed}"


def _config_of(
    config: AblationConfig, name: str, seed: int, shards: Mapping[str, Path], mean_weights: Mapping[str, float]
) -> TrainConfig:
    arm = config.all_arms()[name]
    values: dict[str, Any] = copy.deepcopy(config.train)
    weighting = dict(arm.weighting)
    if arm.scale_as is not None:
        weighting["scale"] = mean_weights[arm.scale_as]
    values |= {
        "model": str(model_folder(config, seed).absolute()),
        "output": str((config.folder / "runs" / name / f"seed-{seed}").absolute()),
        "seed": seed,
        "weighting": weighting,
    }
    if arm.data in shards:
        values["data"] = {**values.get("data", {}), "shards": [str(shards[arm.data].absolute())]}
    if "held_out" in shards:
        values["validation"] = {**values.get("validation", {}), "shards": [str(shards["held_out"].absolute())]}
    return parse_config(TrainConfig, values, f"arm {name}, seed {seed}")
