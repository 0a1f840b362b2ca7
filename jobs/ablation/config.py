"""The ablation's config: what `editmill ablate CONFIG.yaml` reads."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config
from schemas.weighting import WEIGHTINGS
from trainer.ablation.statistics import LEVEL
from unified_model.learner import LearnerConfig

FILLED_IN = ("model", "output", "seed", "weighting")
"""Keys of a training config that the ablation gives each run."""
REGIONS = ("inside", "outside", "border")
AREA_BINS = ("under_1", "1_to_5", "5_to_20", "over_20", "global")
MOST_METRICS = 2
"""Metrics that decide: the held-out loss, and the copy-rate where edits are sampled."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


class ArmConfig(Config):
    """One way to train; everything that is not said here is the same in all arms."""

    weighting: dict[str, Any] = Field(default_factory=dict)
    """The training config's `weighting`: function, normalise, max_weight, scale, shuffled, ..."""
    scale_as: str | None = None
    """Another arm: every weight is multiplied by that arm's mean weight on the training data, so that this arm has the
    size of its loss and nothing of its emphasis."""
    data: str = "train"
    """Which of `data` it trains on."""


class PrimaryConfig(Config):
    """The metric that decides, named before the run."""

    region: str = "inside"
    """Where the held-out loss is taken: inside, outside or border (a band around the edit's edge)."""
    area_bins: tuple[str, ...] = ("under_1", "1_to_5")
    """Over edits of these sizes: under_1, 1_to_5, 5_to_20 (per cent of the image), over_20, global."""
    weights: str = "ema"
    """`ema`, the averaged weights, or `raw`."""

    @model_validator(mode="after")
    def _known(self) -> PrimaryConfig:
        for name, value, known in (
            ("region", (self.region,), REGIONS),
            ("area_bins", self.area_bins, AREA_BINS),
            ("weights", (self.weights,), ("ema", "raw")),
        ):
            unknown = sorted(set(value) - set(known))
            if unknown or not value:
                raise ValueError(f"{name} must be of {', '.join(known)}")
        return self


class AblationConfig(Config):
    """Arms x seeds, on one dataset and one model."""

    name: str
    """Lower-case letters, digits, hyphens and underscores."""
    output: Path | None = None
    """Everything is written below it. Default: `runs/NAME`."""
    data: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name -> a pipeline (`source`, `steps`, `pack`) that makes a packed folder, run once before the arms. `train` and
    `held_out` must be among them, unless `train.data` and `train.validation` name shards of their own."""
    model: str | None = None
    """Folder of the model every run begins with; null builds the `learner`."""
    learner: LearnerConfig = LearnerConfig()
    """Size of the model that is built where none is named. Each seed draws its own weights; the VAE is shared."""
    cache: Literal["none", "latents", "features"] = "none"
    """What the frozen parts make of `data` is computed once, for all runs: latents, or the towers' features too."""
    train: dict[str, Any]
    """The training config that all runs share, as in configs/train/; model, output, seed, weighting are filled in, and
    so are the shards of `data`."""
    arms: dict[str, ArmConfig] = Field(default_factory=dict)
    """Name -> arm, besides the standard ones."""
    standard_arms: bool = True
    """Take uniform, constant, and every weighting function raw and renormalised per sample."""
    cap: float = Field(default=64.0, ge=1.0)
    """Largest weight of exponential_root, which is not usable without."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each decides initial weights, order, noise and timesteps of one run of every arm."""
    primary: PrimaryConfig = PrimaryConfig()
    """The metric that decides."""
    replicates: int = Field(default=20_000, ge=100)
    """Draws of the bootstrap. No p-value is under 2 / (replicates + 1), so that many arms need many."""
    at_once: int = Field(default=1, ge=1)
    """Runs at a time on this machine; on a cluster that was joined as many as fit."""
    cpus_per_run: float = Field(default=1.0, gt=0.0)
    """Cores of a run; it gets as many threads."""
    gpus_per_run: float = Field(default=0.0, ge=0.0)
    """GPUs of a run."""
    address: str | None = None
    """Ray cluster to join ("auto", or HOST:PORT), whose machines must all see the output folder; null starts one
    here."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", value) is None:
            raise ValueError("must be lower-case letters, digits, hyphens and underscores")
        return value

    @field_validator("train")
    @classmethod
    def _shared_only(cls, values: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(set(FILLED_IN) & set(values))
        if taken:
            raise ValueError(f"must not hold '{taken[0]}', which each run gets of its own")
        return values

    @field_validator("arms")
    @classmethod
    def _arm_names(cls, arms: dict[str, ArmConfig]) -> dict[str, ArmConfig]:
        for name in arms:
            if _NAME.fullmatch(name) is None:
                raise ValueError(f"'{name}': an arm's name has lower-case letters, digits and underscores only")
        return arms

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("must be at least one seed, each once and none negative")
        return seeds

    @model_validator(mode="after")
    def _arms_fit(self) -> AblationConfig:
        arms = self.all_arms()
        if len(arms) < 2:
            raise ValueError("arms must be at least two, to hold against each other")
        for name, arm in arms.items():
            if arm.scale_as is not None and (arm.scale_as not in arms or arm.scale_as == name):
                raise ValueError(f"arms.{name}.scale_as must be another arm; '{arm.scale_as}' is none")
            if self.data and arm.data not in self.data:
                raise ValueError(f"arms.{name}.data must be one of data: {', '.join(self.data)}")
        return self

    @model_validator(mode="after")
    def _cache_of_data(self) -> AblationConfig:
        if self.cache != "none" and not self.data:
            raise ValueError("cache belongs to data: run `editmill cache` on shards that were packed elsewhere")
        return self

    @model_validator(mode="after")
    def _enough_replicates(self) -> AblationConfig:
        arms = len(self.all_arms())
        needed = math.ceil(2 * MOST_METRICS * (arms * (arms - 1) // 2) / (1.0 - LEVEL))
        if self.replicates < needed:
            raise ValueError(
                f"replicates must be at least {needed} with {arms} arms: with fewer nothing could be significant after "
                "Holm's correction, however large"
            )
        return self

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.output or Path("runs") / self.name

    def all_arms(self) -> dict[str, ArmConfig]:
        """Standard arms and own ones; an own arm of a standard name takes its place."""
        return {**(standard_arms(self.cap) if self.standard_arms else {}), **self.arms}


def standard_arms(cap: float) -> dict[str, ArmConfig]:
    """Uniform; constant, of the logarithmic arm's mean weight; each weighting function raw, and with every sample's
    weights divided by their mean (`_per_sample`), which parts emphasis from step size."""
    arms = {"uniform": ArmConfig(weighting={"function": "uniform"})}
    arms["constant"] = ArmConfig(weighting={"function": "uniform"}, scale_as="logarithmic")
    for name, weighting in WEIGHTINGS.items():
        if name == "uniform":
            continue
        values: dict[str, Any] = {"function": name, **({"max_weight": cap} if weighting.requires_cap else {})}
        arms[name] = ArmConfig(weighting=values)
        arms[f"{name}_per_sample"] = ArmConfig(weighting={**values, "normalise": "per_sample"})
    return arms
