"""What computes the DiT's blocks: which attention kernel, compiled or not, recomputed in the backward pass or not.

All of it is asked for before a run starts, by running the thing itself on a few numbers: only that tells whether this
machine, this device and this dtype have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn
from diffusers.utils import logging as diffusers_logging
from torch._dynamo import config as dynamo_config
from torch.utils.checkpoint import checkpoint

from schemas.errors import ConfigError
from trainer.config import TrainConfig
from trainer.config.engine import AttentionName
from trainer.distributed import Ranks

ATTENTION: dict[AttentionName, str] = {
    "sdpa": "native",
    "flash": "_native_flash",
    "cudnn": "_native_cudnn",
    "flash_attention_2": "flash_varlen",
    "flash_attention_3": "_flash_varlen_3",
}
"""Our names for diffusers' attention backends. `native` is torch's own choice among its kernels."""

_KINDS_OF_CALL = 64

_HEAD = 128
"""Width of FLUX's attention heads."""


def check_kernels(config: TrainConfig, ranks: Ranks, dtype: torch.dtype) -> None:
    """Look that this machine has the attention kernel and the compiler that the config asks for.

    Args:
        dtype: of the activations.

    Raises:
        ConfigError: one of them cannot be had.
    """
    engine = config.engine
    if engine.attention != "sdpa":
        states = torch.ones(config.batch_size, 16, 1, _HEAD, dtype=dtype, device=ranks.device, requires_grad=True)
        mask = torch.ones(config.batch_size, 16, dtype=torch.bool, device=ranks.device)
        mask[1:, -1:] = False
        try:
            with attention_backend(ATTENTION[engine.attention]):
                attended = dispatch_attention_fn(states, states, states, attn_mask=mask if len(mask) > 1 else None)
            attended.sum().backward()
        except (RuntimeError, ValueError, ImportError) as error:
            raise ConfigError(
                "engine.attention",
                engine.attention,
                f"cannot be had on {ranks.device.type} in {engine.dtype} with batch_size {config.batch_size} ({error})",
                "Take sdpa.",
            ) from error
    if engine.compile != "none":
        try:
            torch.compile(_double, backend=engine.compile)(torch.ones(16, dtype=dtype, device=ranks.device))
        except (RuntimeError, ImportError) as error:
            raise ConfigError(
                "engine.compile",
                engine.compile,
                f"cannot compile for {ranks.device.type} here ({error})",
                "Install a compiler (g++, and triton for GPUs), or take none.",
            ) from error


def prepare_blocks(transformer: Any, config: TrainConfig) -> None:
    """Set attention, compilation and recomputation of a DiT as the config says.

    Args:
        transformer: a diffusers model with repeated blocks, such as `FluxTransformer2DModel`.
    """
    engine = config.engine
    # It warns that the names of the backends may change.
    before = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    # Always, as it holds for the process too: an earlier run's choice would be taken where there is none.
    transformer.set_attention_backend(ATTENTION[engine.attention])
    diffusers_logging.set_verbosity(before)
    recompute_blocks(transformer, engine.recompute_every)
    if engine.compile != "none":
        # One block serves rows with and without padding, of every bucket, before and behind what trains: more kinds of
        # call than torch compiles for by default. Beyond that it would go on uncompiled, and say so in a warning only.
        dynamo_config.recompile_limit = _KINDS_OF_CALL
        transformer.compile_repeated_blocks(backend=engine.compile)


def recompute_blocks(transformer: Any, every: int) -> None:
    """Let every n-th block of a DiT forget its activations, and compute them again in the backward pass; 0 for none."""
    if every:
        transformer.enable_gradient_checkpointing(_recompute(repeated_blocks(transformer)[::every]))


def repeated_blocks(transformer: Any) -> list[torch.nn.Module]:
    """The blocks that diffusers compiles and recomputes one by one, in the order in which they compute."""
    names = set(transformer._repeated_blocks)
    return [module for module in transformer.modules() if type(module).__name__ in names]


def _recompute(chosen: list[torch.nn.Module]) -> Callable[..., Any]:
    """diffusers' hook around each block: the chosen ones forget their activations."""
    forgetful = set(map(id, chosen))

    def call(block: torch.nn.Module, *arguments: Any) -> Any:
        if id(block) in forgetful:
            return checkpoint(block.__call__, *arguments, use_reentrant=False)
        return block(*arguments)

    return call


def _double(values: torch.Tensor) -> torch.Tensor:
    return values * 2.0
