"""Classifier-free guidance by the instruction and by the references, as a weighted sum of the model's passes.

With e(image, text) the model's velocity, 0 standing for what is dropped, s_I the image guidance and s_T the text
guidance (Brooks et al., "InstructPix2Pix", arXiv:2211.09800, equation 3):

    e(0, 0) + s_I (e(I, 0) - e(0, 0)) + s_T (e(I, T) - e(I, 0))

Both scales at 1 are the model itself, in one pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schemas.errors import ConfigError


@dataclass(frozen=True)
class GuidancePass:
    """One of the passes whose sum is the guided velocity.

    Args:
        weight: its factor; the factors of all passes sum to 1.
        text: whether it hears the instruction; else that is dropped.
        images: whether it sees the references; else they are dropped.
    """

    weight: float
    text: bool
    images: bool


def guidance_passes(text_guidance: float, image_guidance: float) -> tuple[GuidancePass, ...]:
    """The passes of a step, one to three; those with weight 0 are left out.

    Args:
        text_guidance: s_T, at least 0; 1 does not guide.
        image_guidance: s_I, at least 0; 1 does not guide.

    Raises:
        ConfigError: a scale is negative or not finite.
    """
    for name, scale in (("text_guidance", text_guidance), ("image_guidance", image_guidance)):
        if not math.isfinite(scale) or scale < 0:
            raise ConfigError(name, scale, "must be at least 0 and finite", "1 does not guide.")
    passes = (
        GuidancePass(text_guidance, True, True),
        GuidancePass(image_guidance - text_guidance, False, True),
        GuidancePass(1.0 - image_guidance, False, False),
    )
    return tuple(one for one in passes if one.weight)
