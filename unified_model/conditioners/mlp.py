"""UniWorld-V1's conditioner: one MLP for the VLM's states, one for SigLIP's tokens, one stream of tokens out."""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from unified_model.conditioners.base import Conditioner, Widths
from unified_model.conditioners.merge import merge_tokens
from unified_model.features import Conditioning, EditFeatures


class MlpConnector(nn.Module):
    """Linear, SiLU, linear: (..., inputs) -> (..., outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Linear(inputs, hidden)
        self.down = nn.Linear(hidden, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens in the width of the denoiser's context, in the connector's dtype."""
        hidden = functional.silu(self.up(tokens.to(self.up.weight.dtype)))
        projected: Tensor = self.down(hidden)
        return projected


class MlpConditioner(Conditioner):
    """SigLIP's tokens of each reference stand just before its `<|vision_end|>` (arXiv:2506.03147, and its release).

    The pooled vector is a buffer, zero at first: UniWorld trains with the pooled embedding of an empty text, which is a
    constant; a converted release stores that constant here.

    Args:
        vlm_width: width of the VLM's hidden states (3584 for the 7B model).
        siglip_width: width of SigLIP's tokens (1152 for so400m).
        hidden_width: hidden width of both connectors (12288 in the release).
        context_width: the denoiser's context width (4096 for FLUX).
        pooled_width: the denoiser's pooled width (768 for FLUX).
    """

    name: ClassVar[str] = "mlp"
    sees = MappingProxyType({"vlm_connector": "prompt", "siglip_connector": "image"})

    @register_to_config
    def __init__(
        self, vlm_width: int, siglip_width: int, hidden_width: int, context_width: int, pooled_width: int
    ) -> None:
        super().__init__()
        self.vlm_connector = MlpConnector(vlm_width, hidden_width, context_width)
        self.siglip_connector = MlpConnector(siglip_width, hidden_width, context_width)
        self.register_buffer("pooled", torch.zeros(pooled_width))

    @classmethod
    def fresh(cls, widths: Widths, hidden_width: int | None = None) -> MlpConditioner:
        """New connectors; `hidden_width` defaults to three times the context width, as in the release."""
        return cls(widths.vlm, widths.siglip, hidden_width or 3 * widths.context, widths.context, widths.pooled)

    @property
    def widths(self) -> Widths:
        """The widths it was made for."""
        config = self.config
        return Widths(config.vlm_width, config.siglip_width, config.context_width, config.pooled_width)

    def forward(self, features: EditFeatures) -> Conditioning:
        """The prompt's tokens and every image's tokens as one stream."""
        tokens, mask = merge_tokens(
            self.vlm_connector(features.vlm_states),
            features.vlm_mask,
            self.siglip_connector(features.siglip_tokens),
            features.image_rows,
            features.image_positions,
        )
        return Conditioning(tokens, mask, self.pooled.to(tokens.dtype).expand(len(features), -1))
