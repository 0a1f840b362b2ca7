"""`TrainConfig`: everything that decides a training run, in one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from schemas.config import Config, parse_config, read_yaml, rule_broken
from schemas.errors import ConfigError
from trainer.config.data import DataConfig
from trainer.config.engine import EngineConfig
from trainer.config.frozen import FrozenConfig
from trainer.config.hardware import HardwareConfig
from trainer.config.logging import LoggingConfig
from trainer.config.lora import LoraConfig
from trainer.config.loss import TimestepConfig, WeightingConfig
from trainer.config.optimization import OptimizerConfig
from trainer.config.saving import CheckpointConfig, EmaConfig
from trainer.config.validation import ValidationConfig
from trainer.stages import STAGES

FREE_ON_RESUME = (
    "model",
    "output",
    "steps",
    "batch_size",
    "gradient_accumulation",
    "ema.device",
    "checkpoints",
    "logging",
    "validation",
    "hardware",
    "data.workers",
    "data.cache",
    "data.max_bad_samples",
    "data.max_bad_share",
    "frozen.offload_towers",
    "engine.zero_stage",
    "engine.offload_optimizer",
    "engine.offload_parameters",
    "engine.gradient_checkpointing",
    "engine.checkpoint_every",
    "engine.compile",
    "engine.attention",
    "engine.overlap_comm",
    "engine.reduce_bucket_size",
    "engine.allgather_bucket_size",
    "engine.prefetch_bucket_size",
    "engine.max_live_parameters",
    "engine.persistence_threshold",
)
"""Dotted fields that may differ when a run goes on: none of them changes what a step computes, but for the rounding of
another kernel or another order of a sum. The model is held to by its files' content, and the global batch as a whole
(`trainer.run_folder.look`)."""


class TrainConfig(Config):
    """A training run."""

    model: str
    """Folder of a unified editing model in the Hugging Face layout, as `UnifiedEditModel.save_pretrained` writes it, or
    the export of an earlier run, whose averaged weights (raw, where it has no others) training then starts from."""
    output: str
    """The run's folder: config.yaml, log.jsonl, tensorboard/, checkpoints/, export/."""
    stage: str = "edit"
    """What trains: `align` (the VLM connector), `edit` (both connectors and the attention and modulation of the DiT's
    image branch), `connectors` (both of them), `full` (conditioner and DiT whole) or `lora` (low-rank adapters on the
    linear layers among the modules of `edit`). See `trainer.stages`."""
    trainable: list[str] | None = None
    """Module-path patterns that replace the stage's own, `*` standing for one path segment; null takes the stage's.
    The stage `lora` takes `lora.modules` in its place."""
    lora: LoraConfig = LoraConfig()
    """The adapters of the stage `lora`; other stages do not read it."""
    data: DataConfig
    """Which samples, and how they are read."""
    steps: int = Field(ge=1)
    """Optimizer steps of the whole run."""
    batch_size: int = Field(default=1, ge=1)
    """Samples of one forward pass on one rank."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Forward passes to an optimizer step. Global batch = batch_size x gradient_accumulation x ranks."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides the order of the samples, their noise and their timesteps."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How the parameters are moved."""
    frozen: FrozenConfig = FrozenConfig()
    """How the weights that do not train lie in memory."""
    engine: EngineConfig = EngineConfig()
    """How model and optimizer lie in memory."""
    weighting: WeightingConfig = WeightingConfig()
    """Region weighting of the loss."""
    timestep: TimestepConfig = TimestepConfig()
    """Distribution of the noise level."""
    ema: EmaConfig = EmaConfig()
    """Moving average of the trainable parameters."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    """When checkpoints are written, and how many are kept."""
    validation: ValidationConfig | None = None
    """Held-out loss and edited images while the run trains; null for none."""
    logging: LoggingConfig = LoggingConfig()
    """What is written of each step."""
    hardware: HardwareConfig = HardwareConfig()
    """What the run is planned for."""

    @field_validator("stage")
    @classmethod
    def _stage_known(cls, name: str) -> str:
        if name not in STAGES:
            raise ValueError(f"must be one of {', '.join(STAGES)}")
        return name

    @field_validator("trainable")
    @classmethod
    def _not_empty(cls, patterns: list[str] | None) -> list[str] | None:
        if patterns is not None and not patterns:
            raise ValueError("must hold at least one pattern, or be null")
        return patterns

    @model_validator(mode="after")
    def _adapted_or_opened(self) -> TrainConfig:
        if self.adapts and self.trainable is not None:
            raise rule_broken("trainable", self.trainable, "must be null in the stage lora", "Say it in lora.modules.")
        return self

    @model_validator(mode="after")
    def _best_is_measured(self) -> TrainConfig:
        if self.checkpoints.best_metric is not None and self.validation is None:
            metric = self.checkpoints.best_metric
            raise rule_broken("checkpoints.best_metric", metric, "is a figure of a validation", "Add `validation`.")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        optimizer, engine = self.optimizer, self.engine
        if optimizer.schedule != "constant" and self.schedule_end <= optimizer.warmup_steps:
            rule = f"must be less than the {self.schedule_end} steps of the learning rate's schedule"
            raise rule_broken("optimizer.warmup_steps", optimizer.warmup_steps, rule)
        if engine.offload_optimizer and optimizer.name != "adamw":
            raise rule_broken("optimizer.name", optimizer.name, "must be adamw with engine.offload_optimizer")
        if engine.attention != "sdpa" and self.batch_size > 1:
            rule = f"must be 1 with engine.attention {engine.attention}, which takes no mask for padded rows"
            raise rule_broken("batch_size", self.batch_size, rule, "Lower it, or take sdpa.")
        return self

    @property
    def schedule_end(self) -> int:
        """The step at which the learning rate has fallen (without meaning for the constant schedule)."""
        return self.optimizer.schedule_steps or self.steps

    @model_validator(mode="after")
    def _quantised_beneath_adapters(self) -> TrainConfig:
        if self.frozen.quantise_dit == "none":
            return self
        if not self.adapts or self.lora.export == "merged":
            raise ValueError("frozen.quantise_dit: needs the stage `lora` and lora.export `adapter`")
        if self.engine.zero_stage == 3:
            raise ValueError("frozen.quantise_dit: does not go with engine.zero_stage 3, which cuts weights apart")
        return self

    @property
    def adapts(self) -> bool:
        """Whether adapters train in place of the modules themselves."""
        return STAGES[self.stage].adapts

    @property
    def patterns(self) -> tuple[str, ...]:
        """The module-path patterns in force: of modules that train, or in the stage `lora` of adapted ones."""
        chosen = self.lora.modules if self.adapts else self.trainable
        return STAGES[self.stage].patterns if chosen is None else tuple(chosen)

    @property
    def averages(self) -> bool:
        """Whether the run keeps a moving average."""
        return STAGES[self.stage].averages if self.ema.enabled is None else self.ema.enabled

    def global_batch(self, ranks: int) -> int:
        """Samples of one optimizer step on `ranks` ranks."""
        return self.batch_size * self.gradient_accumulation * ranks

    def identity(self) -> dict[str, Any]:
        """What a resumed run must share with the run it goes on with: dotted field -> value."""
        shared = identity_of(_flat(self.as_json()))
        # More steps would bend the schedule of the steps that are done.
        if self.optimizer.schedule != "constant":
            shared["optimizer.schedule_steps"] = self.schedule_end
        return shared

    def flat(self) -> dict[str, Any]:
        """Every value, JSON-able: dotted field -> value, with `identity` in it."""
        return _flat(self.as_json()) | self.identity()


def load_train_config(path: Path, changes: dict[str, Any] | None = None) -> TrainConfig:
    """The training config in a YAML file.

    Args:
        changes: dotted keys (`weighting.function`) with values that replace the file's.

    Raises:
        InputError, ConfigError: as `schemas.config.read_yaml` and `parse_config`.
    """
    values = read_yaml(path)
    for key, value in (changes or {}).items():
        replace(values, key, value)
    return parse_config(TrainConfig, values, str(path))


def identity_of(flat: dict[str, Any]) -> dict[str, Any]:
    """What of `TrainConfig.flat` a resumed run must share."""
    return {name: value for name, value in flat.items() if not _is_free(name)}


def replace(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value at a dotted key, in place.

    Raises:
        ConfigError: a key on the way holds no mapping.
    """
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}", inner, f"'{parent}' holds no mapping", "Correct the key.")
        values = inner
    values[last] = value


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE_ON_RESUME)
