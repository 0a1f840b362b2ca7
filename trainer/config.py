"""`TrainConfig`: everything that decides a training run, in one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config, parse_config, read_yaml
from schemas.errors import ConfigError
from schemas.masks import LATENT_STRIDE, MaskStatus
from schemas.weighting import WEIGHTINGS, check_weighting
from trainer.stages import STAGES

PATCH = 2
"""Latent cells along one side of a FLUX image token."""

FREE_ON_RESUME = frozenset({"output", "steps", "checkpoint_every", "keep_last", "log_every", "loader_workers"})
"""Fields that may differ when a run goes on: none of them changes what a step computes."""


class WeightingConfig(Config):
    """How the edited region is weighed in the loss."""

    function: str = "logarithmic"
    """A key of `schemas.weighting.WEIGHTINGS`: uniform, linear, exponential_root, logarithmic or quadratic_root."""
    max_weight: float | None = None
    """The largest weight of a latent cell, inclusive, or null for no cap. `exponential_root` needs one."""
    normalise: Literal["none", "per_sample", "per_batch"] = "none"
    """`none`: weighted sum over the number of cells, as UniWorld-V1 was trained; a small edit then counts for more.
    `per_sample`: each sample's weights are divided by their mean, so that samples count alike. `per_batch`: the
    weighted sum over the sum of the weights of the global batch."""

    @field_validator("function")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in WEIGHTINGS:
            raise ValueError(f"must be one of {', '.join(WEIGHTINGS)}")
        return name

    @model_validator(mode="after")
    def _capped(self) -> WeightingConfig:
        try:
            check_weighting(self.function, self.max_weight)
        except ConfigError as error:
            raise ValueError(f"{error.field}: {error.rule} ({error.mend})") from error
        return self


class EmaConfig(Config):
    """The exponential moving average of the trainable parameters."""

    decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """The share of the old average kept at each step once warm; at step s it is min((1 + s) / (10 + s), decay)."""


class TimestepConfig(Config):
    """The distribution of the noise level: a logit-normal, shifted with the number of image tokens."""

    mean: float = 0.0
    """Mean of the normal before the shift."""
    deviation: float = Field(default=1.0, gt=0.0)
    """Standard deviation of the normal."""
    base_tokens: int = Field(default=256, ge=1)
    """Image tokens at which the shift is `base_shift`."""
    base_shift: float = 0.5
    """mu at `base_tokens`."""
    max_tokens: int = Field(default=4096, ge=2)
    """Image tokens at which the shift is `max_shift`; in between, and beyond, mu is linear in the tokens."""
    max_shift: float = 1.15
    """mu at `max_tokens`."""

    @model_validator(mode="after")
    def _ordered(self) -> TimestepConfig:
        if self.max_tokens <= self.base_tokens:
            raise ValueError("max_tokens must be greater than base_tokens")
        return self


class TrainConfig(Config):
    """A training run."""

    model: str
    """Folder of a unified editing model in the Hugging Face layout, as `UnifiedEditModel.save_pretrained` writes it, or
    the export of an earlier run, whose averaged weights training then starts from."""
    shards: list[str] = Field(min_length=1)
    """Packed folders, as `editmill pack` writes them, with WebDataset shards; their samples are pooled."""
    subsets: list[str] = Field(default=["train"])
    """Subsets to take of folders that were packed in subsets; the others are counted and left out. Folders without
    subsets are taken whole."""
    output: str
    """The run's folder: config.yaml, log.jsonl, tensorboard/, checkpoints/, export/."""
    stage: str = "edit"
    """What trains: `align` (the VLM connector) or `edit` (both connectors and the attention and modulation of the
    DiT's image branch). See `trainer.stages`."""
    trainable: list[str] | None = None
    """Module-path patterns that replace the stage's own, `*` standing for one path segment; null takes the stage's."""
    resolution: int = Field(default=512, ge=16, le=4096)
    """Side of the square in pixels to which target, reference and mask are cropped and resized; a multiple of 16
    (8 pixels a latent cell, 2 cells a token)."""
    steps: int = Field(ge=1)
    """Optimizer steps of the whole run."""
    batch_size: int = Field(default=1, ge=1)
    """Samples of one forward pass on one rank."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Forward passes to an optimizer step. Global batch = batch_size x gradient_accumulation x ranks."""
    learning_rate: float = Field(default=1e-5, gt=0.0)
    """Peak learning rate of AdamW; constant after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate grows linearly from 0 (exclusive) to its peak."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay of the first and second moment, each in [0, 1)."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW's decoupled weight decay."""
    clip_norm: float = Field(default=1.0, ge=0.0)
    """The gradient's global 2-norm is clipped to this; 0 does not clip."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides the order of the samples, their noise and their timesteps."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: 0 shards nothing, 1 the optimizer, 2 gradients too, 3 parameters too."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of parameters and activations. With bfloat16 the optimizer keeps float32 master weights."""
    gradient_checkpointing: bool = False
    """Recompute the DiT's activations in the backward pass: less memory, about a third more compute."""
    weighting: WeightingConfig = WeightingConfig()
    """Region weighting of the loss."""
    mask_statuses: list[MaskStatus] = Field(default=[MaskStatus.OK, MaskStatus.GLOBAL], min_length=1)
    """Samples with other mask statuses are left out, and counted."""
    max_bad_samples: int = Field(default=100, ge=0)
    """A sample that cannot be read is skipped, logged with its key and counted; more than this many stop the run."""
    ema: EmaConfig = EmaConfig()
    """Moving average of the trainable parameters."""
    timestep: TimestepConfig = TimestepConfig()
    """Distribution of the noise level."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints; there is always one at the end."""
    keep_last: int = Field(default=2, ge=1)
    """Complete checkpoints kept; older ones are deleted once a newer one is complete."""
    log_every: int = Field(default=1, ge=1)
    """Steps between TensorBoard points (log.jsonl has every step)."""
    loader_workers: int = Field(default=0, ge=0)
    """Processes on each rank that read and decode; 0 does it between the steps."""

    @field_validator("stage")
    @classmethod
    def _stage_known(cls, name: str) -> str:
        if name not in STAGES:
            raise ValueError(f"must be one of {', '.join(STAGES)}")
        return name

    @field_validator("resolution")
    @classmethod
    def _whole_tokens(cls, resolution: int) -> int:
        if resolution % (LATENT_STRIDE * PATCH):
            raise ValueError(f"must be a multiple of {LATENT_STRIDE * PATCH}")
        return resolution

    @field_validator("betas")
    @classmethod
    def _betas_in_range(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError("each must be at least 0 and less than 1")
        return betas

    @field_validator("trainable")
    @classmethod
    def _not_empty(cls, patterns: list[str] | None) -> list[str] | None:
        if patterns is not None and not patterns:
            raise ValueError("must hold at least one pattern, or be null")
        return patterns

    @property
    def patterns(self) -> tuple[str, ...]:
        """The module-path patterns in force."""
        return STAGES[self.stage].patterns if self.trainable is None else tuple(self.trainable)

    @property
    def image_tokens(self) -> int:
        """Image tokens of one sample in the DiT."""
        return (self.resolution // (LATENT_STRIDE * PATCH)) ** 2

    def global_batch(self, ranks: int) -> int:
        """Samples of one optimizer step on `ranks` ranks."""
        return self.batch_size * self.gradient_accumulation * ranks

    def identity(self) -> dict[str, Any]:
        """What a resumed run must share with the run it goes on with."""
        return {name: value for name, value in self.as_json().items() if name not in FREE_ON_RESUME}


def load_train_config(path: Path, changes: dict[str, Any] | None = None) -> TrainConfig:
    """The training config in a YAML file.

    Args:
        changes: dotted keys (`weighting.function`) with values that replace the file's.

    Raises:
        InputError, ConfigError: as `schemas.config.read_yaml` and `parse_config`.
    """
    values = read_yaml(path)
    for key, value in (changes or {}).items():
        _replace(values, key, value)
    return parse_config(TrainConfig, values, str(path))


def _replace(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}", inner, f"'{parent}' holds no mapping", "Correct the key.")
        values = inner
    values[last] = value
