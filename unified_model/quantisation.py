"""Frozen weights in 8 or 4 bits, through the libraries' own use of bitsandbytes, for cards of little memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from schemas.errors import ConfigError
from unified_model.extras import require

Bits = Literal["none", "8bit", "4bit"]
"""`none` keeps 16 or 32 bits; `8bit` is LLM.int8() (arXiv:2208.07339); `4bit` is NF4 with the scales quantised in turn
(QLoRA, arXiv:2305.14314)."""

DIT_IN_FULL = ("x_embedder", "context_embedder", "time_text_embed", "norm_out", "proj_out")
"""Layers of FLUX that stay in full precision: where it begins and ends, 0.5 % of its weights."""


@dataclass(frozen=True)
class Quantisation:
    """What is quantised while a model is loaded.

    Args:
        vlm: bits of Qwen2.5-VL, and of T5 where the model has one.
        transformer: bits of the DiT; needs a GPU.
        device: where the quantised parts are put, and stay.
    """

    vlm: Bits = "none"
    transformer: Bits = "none"
    device: str = "cpu"

    def check(self) -> None:
        """Make sure that it can be done.

        Raises:
            InputError: bitsandbytes is not installed.
            ConfigError: the DiT is to be quantised, but not on a GPU.
        """
        if (self.vlm, self.transformer) == ("none", "none"):
            return
        require("bitsandbytes")
        if self.transformer != "none" and torch.device(self.device).type != "cuda":
            raise ConfigError(
                "quantise-dit", self.transformer, f"needs a GPU, not the device {self.device}", "Leave it out."
            )

    def vlm_keywords(self, dtype: torch.dtype) -> dict[str, Any]:
        """What transformers' `from_pretrained` is told besides, nothing where nothing is quantised."""
        if self.vlm == "none":
            return {}
        from transformers import BitsAndBytesConfig

        return self._keywords(BitsAndBytesConfig(**_bits(self.vlm, dtype)))

    def transformer_keywords(self, dtype: torch.dtype) -> dict[str, Any]:
        """What diffusers' `from_pretrained` is told besides."""
        if self.transformer == "none":
            return {}
        from diffusers import BitsAndBytesConfig

        config = BitsAndBytesConfig(**_bits(self.transformer, dtype), llm_int8_skip_modules=list(DIT_IN_FULL))
        return self._keywords(config)

    def _keywords(self, config: Any) -> dict[str, Any]:
        return {"quantization_config": config, "device_map": {"": self.device}}


NOT_QUANTISED = Quantisation()


def is_quantised(module: Any) -> bool:
    """Whether a part was loaded in 8 or 4 bits. Such a part stays on its device."""
    return bool(getattr(module, "is_quantized", False))


def _bits(bits: Bits, dtype: torch.dtype) -> dict[str, Any]:
    if bits == "8bit":
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }
