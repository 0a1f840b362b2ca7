"""The optimizers by name, made for parameters that DeepSpeed will cut into pieces.

DeepSpeed replaces the parameters of the group by flat float32 pieces and keeps stepping this very object, so that each
of them works with every ZeRO stage.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import nn

from schemas.errors import ConfigError
from trainer.config import TrainConfig
from trainer.config.optimization import OptimizerName
from trainer.distributed import Ranks

EXTRA = 'In the clone, run pip install ".[optimizers]", or take adamw.'


def check_optimizer(config: TrainConfig, ranks: Ranks) -> None:
    """Look that the config's optimizer can run on this device, by one step on a few numbers.

    Raises:
        ConfigError: its package is missing, or has no kernel for this device.
    """
    name = config.optimizer.name
    if name == "prodigy":
        _package("prodigyopt", name)
        if shards_optimizer(config, ranks) and ranks.device.type != "cuda":
            raise ConfigError(
                "optimizer.name",
                name,
                "adds up its estimate over the ranks on GPUs only",
                "Take adamw, or one process, or engine.zero_stage: 0 with engine.dtype: float32.",
            )
    if name == "adamw_8bit":
        number = nn.Parameter(torch.zeros(2 * config.optimizer.minimum_8bit_size, device=ranks.device))
        number.grad = torch.ones_like(number)
        optimizer = build_optimizer([number], config, ranks)
        try:
            optimizer.step()
        except (RuntimeError, NotImplementedError) as error:
            raise ConfigError(
                "optimizer.name", name, f"has no kernel for {ranks.device.type} ({error})", "Take adamw."
            ) from error


def build_optimizer(parameters: Sequence[nn.Parameter], config: TrainConfig, ranks: Ranks) -> torch.optim.Optimizer:
    """The config's optimizer over all parameters, as one group.

    Raises:
        ConfigError: its package is missing.
    """
    return _BUILDERS[config.optimizer.name](parameters, config, ranks)


def shards_optimizer(config: TrainConfig, ranks: Ranks) -> bool:
    """Whether each rank steps a part of the parameters only."""
    return ranks.world > 1 and config.engine.zero_stage > 0


def measures(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """What an optimizer tells of itself beside its learning rate, for the log: Prodigy's estimated distance, by which
    it multiplies the learning rate."""
    (group, *_) = optimizer.param_groups
    return {"prodigy_d": float(group["d"])} if "d" in group else {}


def _adamw(parameters: Sequence[nn.Parameter], config: TrainConfig, ranks: Ranks) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters,
        lr=config.optimizer.learning_rate,
        betas=config.optimizer.betas,
        eps=config.optimizer.epsilon,
        weight_decay=config.optimizer.weight_decay,
        # One kernel for all of the update. Both of the devices that this trainer knows have it.
        fused=True,
    )


def _adamw_8bit(parameters: Sequence[nn.Parameter], config: TrainConfig, ranks: Ranks) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = _package("bitsandbytes", "adamw_8bit").optim.AdamW8bit(
        parameters,
        lr=config.optimizer.learning_rate,
        betas=config.optimizer.betas,
        eps=config.optimizer.epsilon,
        weight_decay=config.optimizer.weight_decay,
        min_8bit_size=config.optimizer.minimum_8bit_size,
    )
    return optimizer


def _prodigy(parameters: Sequence[nn.Parameter], config: TrainConfig, ranks: Ranks) -> torch.optim.Optimizer:
    package, options = _package("prodigyopt", "prodigy"), config.optimizer.prodigy
    # It prints a line about weight decay on every rank.
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer: torch.optim.Optimizer = package.Prodigy(
            parameters,
            lr=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
            eps=config.optimizer.epsilon,
            weight_decay=config.optimizer.weight_decay,
            d0=options.d0,
            d_coef=options.d_coef,
            growth_rate=math.inf if options.growth_rate is None else options.growth_rate,
            use_bias_correction=options.bias_correction,
            safeguard_warmup=options.safeguard_warmup,
            # Its name for parameters in pieces: the estimate is summed over the ranks.
            fsdp_in_use=shards_optimizer(config, ranks),
        )
    return optimizer


def _package(package: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError("optimizer.name", name, f"needs the package {package} ({error})", EXTRA) from error


_BUILDERS: dict[OptimizerName, Callable[[Sequence[nn.Parameter], TrainConfig, Ranks], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
    "prodigy": _prodigy,
}
