"""The conditioner's interface: features of the frozen towers in, the denoiser's conditioning out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from unified_model.features import Conditioning, EditFeatures


@dataclass(frozen=True)
class Widths:
    """Widths a conditioner must fit: of what it reads, and of what the denoiser takes."""

    vlm: int
    siglip: int
    context: int
    pooled: int


class Conditioner(ModelMixin, ConfigMixin, ABC):
    """Base of every conditioner. Saving and loading (config.json and safetensors) come from diffusers.

    A subclass decorates `__init__` with `register_to_config`, and stands in `CONDITIONERS` under its `name`. Its
    parameters belong to child modules that give tensors, none to itself: ZeRO-3 gathers them there only.
    """

    name: ClassVar[str]
    sees: ClassVar[Mapping[str, Literal["prompt", "image"]]] = MappingProxyType({})
    """Child module -> the tokens it is run over, for the count of FLOPs: the prompt's, the images' (SigLIP's), or,
    where nothing is said, `stream_tokens`."""
    config_name = "config.json"
    pooled: Tensor
    """(D of the denoiser's pooled projection), a buffer: what stands for CLIP's vector where there is no CLIP."""

    @torch.no_grad()
    def remember_pooled(self, vector: Tensor) -> None:
        """Take a (D,) vector as the pooled one; CLIP's of an empty text, as a rule."""
        self.pooled.copy_(vector)

    @classmethod
    @abstractmethod
    def fresh(cls, widths: Widths) -> Conditioner:
        """A conditioner with new weights, drawn from torch's global generator, at the published hidden widths."""

    @property
    @abstractmethod
    def widths(self) -> Widths:
        """The widths it was made for."""

    def context_tokens(self, prompt: int, image: int) -> int:
        """Tokens that it makes of a row with so many of the prompt and of SigLIP's; all of them, if not overridden."""
        return prompt + image

    def stream_tokens(self, prompt: int, image: int) -> int:
        """Tokens of a row inside it, after both kinds were brought together, for the count of FLOPs."""
        return self.context_tokens(prompt, image)

    @abstractmethod
    def forward(self, features: EditFeatures) -> Conditioning:
        """The conditioning of a batch. A padded row must give the same as the row alone."""
