"""The DeepSpeed engine around the trainable core; the frozen towers stay outside it."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn

from trainer.config import TrainConfig
from trainer.distributed import Ranks
from trainer.optimization.optimizers import build_optimizer

Engine = Any
"""A `deepspeed.DeepSpeedEngine`. Not named as a type, so that importing the trainer does not import deepspeed."""

_UNCUT = 10**15


def build_engine(core: nn.Module, config: TrainConfig, ranks: Ranks) -> Engine:
    """Wrap `core` for training its trainable parameters with the config's optimizer.

    The engine averages gradients over ranks and micro-batches; `backward` below undoes that, since the loss arrives
    divided by the global count.

    Args:
        core: already in the config's dtype, with `requires_grad` set; with ZeRO 3 it may lie on another device than the
            rank's, and is cut into pieces parameter by parameter, so that no device has to hold all of it.

    Raises:
        ConfigError: as `trainer.optimization.optimizers.build_optimizer`.
    """
    deepspeed = _import_deepspeed()
    told = engine_config(config, ranks.world)
    if config.engine.zero_stage == 3:
        deepspeed.zero.Init(module=core, config_dict_or_path=told)
        for buffer in core.buffers():
            buffer.data = buffer.data.to(ranks.device)
    optimizer = build_optimizer([value for value in core.parameters() if value.requires_grad], config, ranks)
    # Without ZeRO in bfloat16, DeepSpeed steps once on zeros as it starts: nothing may move then, nor Adam count it.
    _set_rate(optimizer, 0.0)
    engine, *_ = deepspeed.initialize(model=core, optimizer=optimizer, config=told, dist_init_required=False)
    if config.engine.zero_stage == 0:
        optimizer.state.clear()
    return engine


def engine_config(config: TrainConfig, ranks: int) -> dict[str, Any]:
    """What DeepSpeed is told, as the dictionary of its JSON config."""
    told = {
        "train_batch_size": config.global_batch(ranks),
        "train_micro_batch_size_per_gpu": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "gradient_clipping": config.optimizer.clip_norm,
        "bf16": {"enabled": config.engine.dtype == "bfloat16"},
        "zero_optimization": zero_config(config),
        # A JSON optimizer would compile a fused kernel at the start; ours need no compiler, in host memory neither.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
    }
    if config.engine.accumulate_in_float32:
        told["data_types"] = {"grad_accum_dtype": "fp32"}
    return told


def zero_config(config: TrainConfig) -> dict[str, Any]:
    """The section `zero_optimization`."""
    engine = config.engine
    told: dict[str, Any] = {"stage": engine.zero_stage, "reduce_bucket_size": engine.reduce_bucket_size}
    if engine.overlap_comm is not None:
        told["overlap_comm"] = engine.overlap_comm
    host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if engine.offload_optimizer:
        told["offload_optimizer"] = host
    if engine.offload_parameters:
        told["offload_param"] = host
    if engine.zero_stage < 3:
        return told | {"allgather_bucket_size": engine.allgather_bucket_size}
    if config.optimizer.name == "prodigy":
        # It must see all parameters of a rank in one step, which ZeRO 3 cuts into groups of this many.
        told["sub_group_size"] = _UNCUT
    return told | {
        "stage3_prefetch_bucket_size": engine.prefetch_bucket_size,
        "stage3_max_live_parameters": engine.max_live_parameters,
        "stage3_param_persistence_threshold": engine.persistence_threshold,
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
    _set_rate(engine.optimizer, rate)


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


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
