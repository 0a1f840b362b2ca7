"""Everything of the model that may be trained."""

from __future__ import annotations

from torch import Tensor, nn

from unified_model.conditioners.base import Conditioner
from unified_model.denoiser import Denoiser
from unified_model.features import EditFeatures


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
        self, noisy_latents: Tensor, timesteps: Tensor, features: EditFeatures, guidance: float | None = None
    ) -> Tensor:
        """The predicted velocity, noise - latent.

        Args:
            noisy_latents: (B, C, h, w), (1 - t) * latent + t * noise.
            timesteps: (B,) t in [0, 1].
            features: of the same B rows.
            guidance: as in `Denoiser.forward`.

        Returns:
            (B, C, h, w).
        """
        velocity: Tensor = self.denoiser(noisy_latents, timesteps, self.conditioner(features), guidance)
        return velocity
