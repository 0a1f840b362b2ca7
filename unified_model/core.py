"""Everything of the model that may be trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unified_model.conditioners.base import Conditioner
from unified_model.denoiser import Denoiser
from unified_model.features import Conditioning, EditFeatures, ReferenceLatents


class EditCore(nn.Module):
    """A conditioner and a denoiser. A training stage names module paths below this one.

    Args:
        conditioner: features -> conditioning.
        denoiser: noisy latents, time, conditioning -> velocity.
    """

    def __init__(self, conditioner: Conditioner, denoiser: Denoiser) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.denoiser = denoiser

    def forward(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        features: EditFeatures,
        guidance: float | None = None,
        reference_latents: ReferenceLatents | None = None,
    ) -> Tensor:
        """The predicted velocity, noise - latent.

        Args:
            noisy_latents: (B, C, h, w), (1 - t) * latent + t * noise.
            timesteps: (B,) t in [0, 1].
            features: of the same B rows.
            guidance, reference_latents: as in `Denoiser.forward`.

        Returns:
            (B, C, h, w).
        """
        conditioning = join_text(self.conditioner(features), features)
        velocity: Tensor = self.denoiser(noisy_latents, timesteps, conditioning, guidance, reference_latents)
        return velocity


def join_text(conditioning: Conditioning, features: EditFeatures) -> Conditioning:
    """What a conditioner made, with T5's tokens behind its own and CLIP's pooled vector in place of its own, where the
    model has them.

    Every T5 token counts, padding too: FLUX was trained with its padding in sight.
    """
    tokens, mask, pooled = conditioning.tokens, conditioning.mask, conditioning.pooled
    if features.t5_tokens is not None:
        joined = features.t5_tokens.to(tokens)
        tokens = torch.cat((tokens, joined), dim=1)
        if mask is not None:
            mask = torch.cat((mask, mask.new_ones(joined.shape[:2])), dim=1)
    if features.pooled is not None:
        pooled = features.pooled.to(pooled)
    return Conditioning(tokens, mask, pooled)
