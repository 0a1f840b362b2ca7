"""How the weights that do not train lie in memory."""

from __future__ import annotations

from pydantic import Field

from schemas.config import Config
from unified_model.quantisation import Bits


class FrozenConfig(Config):
    """The frozen weights, for cards of little memory."""

    quantise_vlm: Bits = Field(default="none")
    """Bits of the vision-language model (and of T5, where the model has one): `none`, `8bit` or `4bit`, through
    bitsandbytes. Its features change a little: train and edit with the same."""
    quantise_dit: Bits = Field(default="none")
    """Bits of the DiT beneath its adapters, on a GPU; for the stage `lora` with `lora.export: adapter` and ZeRO 0 to 2
    only (QLoRA, arXiv:2305.14314)."""
    offload_towers: bool = False
    """Keep the towers in the machine's memory, and bring them to the GPU for each micro-batch. Quantised ones stay on
    the GPU."""
