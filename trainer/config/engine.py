"""How the work is laid out on the devices: sharding, precision, recomputation, compilation, attention."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.config import Config, rule_broken

AttentionName = Literal["sdpa", "flash", "cudnn", "flash_attention_2", "flash_attention_3"]
Compiler = Literal["none", "inductor", "aot_eager", "eager"]


class EngineConfig(Config):
    """How model and optimizer lie in memory, and which kernels compute."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: 0 shards nothing, 1 the optimizer, 2 gradients too, 3 parameters too."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of parameters and activations. With bfloat16 the optimizer keeps float32 master weights."""
    accumulate_in_float32: bool = False
    """Add up the gradients of several micro-batches in float32, 4 bytes a trainable parameter more over the ranks, in
    place of bfloat16. ZeRO 2 or 3 with bfloat16."""
    gradient_checkpointing: bool = False
    """Recompute the activations of the DiT's blocks in the backward pass: less memory, about a third more compute."""
    checkpoint_every: int = Field(default=1, ge=1)
    """With `gradient_checkpointing`, every n-th block is recomputed: 1 is all of them, 2 every second one."""
    compile: Compiler = "none"
    """Compile each block of the DiT: `inductor` for speed; `aot_eager` and `eager` trace without generating code, to
    look for faults. Not with ZeRO 3, whose parameters come and go inside a block."""
    attention: AttentionName = "sdpa"
    """Kernel of the DiT's attention. `sdpa` lets torch choose, and takes the mask that rows of different length need.
    With the others `batch_size` must be 1: `flash` and `cudnn`, which hold torch to one of its own, take no mask, and
    `flash_attention_2` and `_3`, which need the packages of that name, are given padding at the end of a row only,
    where the DiT has it between prompt and image."""
    offload_optimizer: bool = False
    """Keep float32 master weights and moments in host memory, and step there. ZeRO 1 to 3, with `adamw`."""
    offload_parameters: bool = False
    """Keep the core's parameters in host memory, and fetch each as it is needed. ZeRO 3."""
    overlap_comm: bool | None = None
    """Reduce gradients while the backward pass goes on, for a second bucket of memory; null: with ZeRO 3 only."""
    reduce_bucket_size: int = Field(default=500_000_000, ge=1)
    """Elements of the buffer in which gradients are reduced over the ranks."""
    allgather_bucket_size: int = Field(default=500_000_000, ge=1)
    """Elements of the buffer in which updated parameters are gathered. ZeRO 1 and 2."""
    prefetch_bucket_size: int = Field(default=50_000_000, ge=0)
    """Elements of parameters fetched ahead of their use. ZeRO 3."""
    max_live_parameters: int = Field(default=1_000_000_000, ge=1)
    """Elements of parameters that a rank holds whole at a time. ZeRO 3."""
    persistence_threshold: int = Field(default=100_000, ge=0)
    """Parameters of fewer elements are held whole on every rank. ZeRO 3."""

    @model_validator(mode="after")
    def _fits_together(self) -> EngineConfig:
        stage = self.zero_stage
        if self.compile != "none" and stage == 3:
            raise rule_broken("compile", self.compile, "needs zero_stage 0, 1 or 2")
        if self.offload_optimizer and stage == 0:
            raise rule_broken("offload_optimizer", True, "needs zero_stage 1, 2 or 3")
        if self.offload_parameters and stage != 3:
            raise rule_broken("offload_parameters", True, "needs zero_stage 3")
        if self.accumulate_in_float32 and (stage < 2 or self.dtype == "float32"):
            raise rule_broken("accumulate_in_float32", True, "needs zero_stage 2 or 3 and dtype bfloat16")
        if self.checkpoint_every > 1 and not self.gradient_checkpointing:
            raise rule_broken("checkpoint_every", self.checkpoint_every, "has no effect without gradient_checkpointing")
        return self

    @property
    def recompute_every(self) -> int:
        """Every n-th block of the DiT is recomputed in the backward pass; 0 for none."""
        return self.checkpoint_every if self.gradient_checkpointing else 0
