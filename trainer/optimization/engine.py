"""The DeepSpeed engine around the trainable core; the frozen towers stay outside it."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn

from trainer.config import TrainConfig
from trainer.distributed import Ranks

Engine = Any
"""A `deepspeed.DeepSpeedEngine`. Not named as a type, so that importing the trainer does not import deepspeed."""


def build_engine(core: nn.Module, config: TrainConfig, ranks: Ranks) -> Engine:
    """Wrap `core` for training with AdamW over its trainable parameters.

    The engine averages gradients over ranks and micro-batches; `backward` below undoes that, since the loss arrives
    divided by the global count.

    Args:
        core: already in the config's dtype, with `requires_grad` set.
    """
    deepspeed = _import_deepspeed()
    parameters = [parameter for parameter in core.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.optimizer.learning_rate,
        betas=config.optimizer.betas,
        weight_decay=config.optimizer.weight_decay,
    )
    engine, *_ = deepspeed.initialize(
        model=core, optimizer=optimizer, config=engine_config(config, ranks.world), dist_init_required=False
    )
    return engine


def engine_config(config: TrainConfig, ranks: int) -> dict[str, Any]:
    """What DeepSpeed is told, as the dictionary of its JSON config."""
    return {
        "train_batch_size": config.global_batch(ranks),
        "train_micro_batch_size_per_gpu": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "gradient_clipping": config.optimizer.clip_norm,
        "bf16": {"enabled": config.engine.dtype == "bfloat16"},
        "zero_optimization": {"stage": config.engine.zero_stage},
        # A JSON optimizer would compile a fused kernel at the start; torch's own AdamW needs no compiler.
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }


def backward(engine: Engine, objective: torch.Tensor, config: TrainConfig, ranks: Ranks) -> None:
    """Accumulate the gradient of this micro-batch's part of the loss (`trainer.loss.reduction.local_objective`)."""
    engine.backward(objective * (ranks.world * config.gradient_accumulation))


def step(engine: Engine, config: TrainConfig) -> float | None:
    """Let the engine step (it does at the accumulation boundary only).

    Returns:
        The gradient's global norm before clipping, at the boundary; None elsewhere.
    """
    if not engine.is_gradient_accumulation_boundary():
        engine.step()
        return None
    # Without ZeRO in float32 the engine keeps no norm; the gradients are whole and averaged by now.
    plain = config.engine.zero_stage == 0 and config.engine.dtype == "float32"
    gradients = [value.grad for value in engine.module.parameters() if plain and value.grad is not None]
    own = torch.nn.utils.get_total_norm(gradients) if gradients else None
    engine.step()
    norm = engine.get_global_grad_norm()
    norm = own if norm is None else norm
    return None if norm is None else float(norm)


def set_learning_rate(engine: Engine, rate: float) -> None:
    """The learning rate of the next step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Linear warm-up to the peak over `warmup_steps`, then constant. `step` counts from 0."""
    if step >= config.optimizer.warmup_steps:
        return config.optimizer.learning_rate
    return config.optimizer.learning_rate * (step + 1) / config.optimizer.warmup_steps


def _import_deepspeed() -> Any:
    """DeepSpeed, kept from compiling anything, and quiet below warnings."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed
    from deepspeed import ops

    deepspeed.utils.logger.setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed.*")
    compatible = getattr(ops, "__compatible_ops__", None)
    # On a CPU every start would compile a shared-memory collective (half a minute, and a compiler); gloo serves.
    if isinstance(compatible, dict) and not torch.cuda.is_available():
        compatible["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)
    return deepspeed
