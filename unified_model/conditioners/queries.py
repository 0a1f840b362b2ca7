"""Learnable queries with a transformer connector: a context of fixed length, however long the prompt and however many
the references."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from unified_model.conditioners.base import Conditioner, Widths
from unified_model.conditioners.merge import merge_tokens
from unified_model.features import Conditioning, EditFeatures

HEAD_WIDTH = 64


class ConnectorBlock(nn.Module):
    """A pre-norm transformer block whose attention looks both ways: (B, S, width) -> (B, S, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """`mask`: (B, 1, 1, S) bool, True at tokens; None where all are."""
        # (B, S, 3 * width) -> three of (B, heads, S, width / heads)
        query, key, value = self.to_qkv(self.norm_attention(tokens)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        tokens = tokens + self.to_out(attended.transpose(1, 2).flatten(2))
        updated: Tensor = tokens + self.down(functional.gelu(self.up(self.norm_mlp(tokens))))
        return updated


class LearnableQueries(nn.Module):
    """Queries put before the tokens of every row: (B, S, width) -> (B, count + S, width).

    A module of its own, since ZeRO-3 gathers a parameter for the backward pass where its module gives a tensor.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, width) / math.sqrt(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """The queries, then `tokens`."""
        return torch.cat((self.weight.expand(len(tokens), -1, -1), tokens), dim=1)


class QueryConditioner(Conditioner):
    """Learnable queries read the VLM's states and SigLIP's tokens, in one stream, through a small transformer; what
    they become is the context.

    After MetaQueries (arXiv:2504.06256), whose queries pass through the frozen VLM too; here they follow it, as in
    BLIP-2 (arXiv:2301.12597), so that features of the towers can be stored. One query more gives the pooled vector, as
    the learnable [CLS] token of Ovis-U1 (arXiv:2506.23044); it begins as the vector that is remembered.

    Args:
        vlm_width: width of the VLM's hidden states.
        siglip_width: width of SigLIP's tokens.
        width: of the transformer; `HEAD_WIDTH` divides it, where it is larger.
        layers: of the transformer.
        query_count: length of the context.
        context_width: the denoiser's context width.
        pooled_width: the denoiser's pooled width.
    """

    name: ClassVar[str] = "queries"
    sees = MappingProxyType({"read_vlm": "prompt", "read_siglip": "image"})

    @register_to_config
    def __init__(
        self,
        vlm_width: int,
        siglip_width: int,
        width: int,
        layers: int,
        query_count: int,
        context_width: int,
        pooled_width: int,
    ) -> None:
        super().__init__()
        self.read_vlm = nn.Linear(vlm_width, width)
        self.read_siglip = nn.Linear(siglip_width, width)
        self.queries = LearnableQueries(query_count + 1, width)
        self.blocks = nn.ModuleList(ConnectorBlock(width, max(1, width // HEAD_WIDTH)) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.to_context = nn.Linear(width, context_width)
        self.to_pooled = nn.Linear(width, pooled_width)
        nn.init.zeros_(self.to_pooled.weight)
        nn.init.zeros_(self.to_pooled.bias)
        self.register_buffer("pooled", torch.zeros(pooled_width))

    @classmethod
    def fresh(cls, widths: Widths, layers: int = 6, query_count: int = 256) -> QueryConditioner:
        """Half as wide as the context: 0.3 billion parameters for FLUX and the 7B model."""
        return cls(widths.vlm, widths.siglip, widths.context // 2, layers, query_count, widths.context, widths.pooled)

    @property
    def widths(self) -> Widths:
        """The widths it was made for."""
        config = self.config
        return Widths(config.vlm_width, config.siglip_width, config.context_width, config.pooled_width)

    def context_tokens(self, prompt: int, image: int) -> int:
        """The number of queries, whatever the row."""
        del prompt, image
        return int(self.config.query_count)

    def stream_tokens(self, prompt: int, image: int) -> int:
        """The row's tokens and all queries."""
        return prompt + image + int(self.config.query_count) + 1

    def forward(self, features: EditFeatures) -> Conditioning:
        """(B, queries, D); no row is ever padded."""
        dtype = self.to_context.weight.dtype
        seen, seen_mask = merge_tokens(
            self.read_vlm(features.vlm_states.to(dtype)),
            features.vlm_mask,
            self.read_siglip(features.siglip_tokens.to(dtype)),
            features.image_rows,
            features.image_positions,
        )
        # SigLIP's tokens do not tell one image from another: their place in the stream does.
        seen = seen + stream_positions(seen.shape[1], seen.shape[2], seen.device).to(dtype)
        count = int(self.config.query_count) + 1
        tokens = self.queries(seen)
        mask = None
        if seen_mask is not None:
            mask = functional.pad(seen_mask, (count, 0), value=True)[:, None, None]
        for block in self.blocks:
            tokens = block(tokens, mask)
        read = self.norm(tokens[:, :count])
        return Conditioning(self.to_context(read[:, 1:]), None, self.pooled + self.to_pooled(read[:, 0]))


def stream_positions(length: int, width: int, device: torch.device) -> Tensor:
    """(length, width) float32: sines and cosines of the position (Vaswani et al., arXiv:1706.03762, 3.5)."""
    half = (width + 1) // 2
    rates = torch.exp(-math.log(10000.0) * torch.arange(half, device=device, dtype=torch.float32) / half)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)[:, :width]
