"""The training config: one file for each of its sections, put together in `TrainConfig`."""

from trainer.config.data import DataConfig, DatasetConfig, DropConfig
from trainer.config.engine import EngineConfig
from trainer.config.frozen import FrozenConfig
from trainer.config.hardware import HardwareConfig
from trainer.config.logging import LoggingConfig, WandbConfig
from trainer.config.lora import LoraConfig
from trainer.config.loss import TimestepConfig, WeightingConfig
from trainer.config.optimization import OptimizerConfig
from trainer.config.saving import CheckpointConfig, EmaConfig
from trainer.config.train import TrainConfig, load_train_config, replace
from trainer.config.validation import ValidationConfig

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "DatasetConfig",
    "DropConfig",
    "EmaConfig",
    "EngineConfig",
    "FrozenConfig",
    "HardwareConfig",
    "LoggingConfig",
    "LoraConfig",
    "OptimizerConfig",
    "TimestepConfig",
    "TrainConfig",
    "ValidationConfig",
    "WandbConfig",
    "WeightingConfig",
    "load_train_config",
    "replace",
]
