"""The resolution's shift of the flow's timesteps, for training and sampling alike (FLUX; arXiv:2403.03206, 5.3.2)."""

from __future__ import annotations


def resolution_mu(
    tokens: int, base_shift: float = 0.5, max_shift: float = 1.15, base_tokens: int = 256, max_tokens: int = 4096
) -> float:
    """The logarithm of the timestep shift: linear in the number of image tokens, not clamped.

    Args:
        tokens: image tokens after the denoiser's packing (height * width / 256 pixels for FLUX).
        base_shift, max_shift: values at `base_tokens` and at `max_tokens`.
    """
    slope = (max_shift - base_shift) / (max_tokens - base_tokens)
    return base_shift + slope * (tokens - base_tokens)
