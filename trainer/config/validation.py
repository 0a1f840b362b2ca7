"""What is measured on held-out samples while a run trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from schemas.config import Config
from schemas.masks import MaskStatus

Weights = Literal["raw", "ema"]
"""`raw`: the weights as the optimizer left them; `ema`: their moving average."""


class ValidationConfig(Config):
    """Held-out loss and edited images, every so many steps and at the end."""

    shards: list[str] = Field(min_length=1)
    """Packed folders that hold the held-out samples; the training folders may be named, with another subset."""
    subsets: list[str] = Field(default=["validation"])
    """Subsets to take of folders that were packed in subsets. Folders without subsets are taken whole."""
    mask_statuses: list[MaskStatus] = Field(default=[MaskStatus.OK, MaskStatus.GLOBAL], min_length=1)
    """Samples with other mask statuses are left out."""
    every: int = Field(default=500, ge=1)
    """Steps between validations; there is always one at the end."""
    at_start: bool = False
    """Validate before the first step too."""
    samples: int = Field(default=256, ge=0)
    """Held-out samples whose loss is taken, chosen by a hash of their keys, so that the choice stays when shards are
    packed anew; 0 takes no loss, more than there are takes all."""
    loss_weights: list[Weights] = Field(default=["raw", "ema"], min_length=1)
    """Which weights the held-out loss is taken with."""
    other_instructions: int = Field(default=0, ge=0)
    """Samples whose loss is taken once more with the instruction of another sample, the first so many of `samples`:
    where the model heeds what it is told, that loss is higher inside the edit. 0 takes none."""
    noise_seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides the fixed noise of each held-out sample, together with its key."""
    levels_at_once: int = Field(default=9, ge=1, le=9)
    """Noise levels of a sample in one forward pass; fewer need less memory and change the loss by rounding only."""
    edits: int = Field(default=6, ge=0)
    """Held-out samples that are edited and shown as strips, chosen from all bins of the edited area in turn."""
    edit_weights: list[Weights] = Field(default=["raw", "ema"], min_length=1)
    """Which weights edit."""
    seeds: list[int] = Field(default=[0], min_length=1)
    """Seeds of the starting noise; each sample is edited once with each."""
    sampling_steps: int = Field(default=28, ge=1)
    """Steps from noise to image."""
    guidance: float = Field(default=3.5, ge=0.0, allow_inf_nan=False)
    """Distilled guidance scale, used only where the denoiser embeds one."""
    text_guidance: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """Classifier-free guidance by the instruction; 1 does not guide, and anything else costs another pass."""
    image_guidance: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """Classifier-free guidance by the references; 1 does not guide."""
    copy_threshold: float = Field(default=0.2, gt=0.0, lt=1.0)
    """An output that moves the edited region away from the reference by at most this share of what the target moves it
    counts as a copy of the reference."""

    lpips: str | None = None
    """Folder of LPIPS's published weights (`trainer/validation/lpips.py` says which files); null does not take it."""
    clip: str | None = None
    """Folder or hub name of a CLIP model, for the likeness of edit and target; null does not take it."""

    @field_validator("subsets", "mask_statuses", "loss_weights", "edit_weights", "seeds")
    @classmethod
    def _each_once(cls, values: list[object]) -> list[object]:
        if len(set(values)) != len(values):
            raise ValueError("must name each value once")
        return values
