"""FLOPs of a training step, from the shapes of its samples.

Model FLOPs are what the samples need: every part of the model forward, and the core backward as far as something trains
(weight gradients of trainable layers only). Hardware FLOPs are what the device is made to do: padding and recomputation
by gradient checkpointing count too. Over the time of a step and the device's peak they give MFU and HFU; see
`trainer.measures.work` for what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.measures.flux_flops import FluxWork, flux_work
from trainer.measures.tower_flops import encoder_flops, language_flops, siglip_flops, text_flops, vision_flops
from trainer.measures.work import Work, linear_work, trains
from unified_model.conditioners import Conditioner
from unified_model.skeleton import Skeleton


@dataclass(frozen=True)
class Row:
    """The shape of one sample.

    Args:
        height, width: of the target, in pixels.
        prompt_tokens: of the VLM's prompt, image tokens included.
        grids: for each reference the VLM's patches in height and width.
        reference_latents: height and width in pixels of each reference whose latents join the image sequence.
        latents_cached, features_cached: the VAE, or the understanding tower, does not run; then only the number of
            `grids` counts.
    """

    height: int
    width: int
    prompt_tokens: int
    grids: tuple[tuple[int, int], ...] = ()
    reference_latents: tuple[tuple[int, int], ...] = ()
    latents_cached: bool = False
    features_cached: bool = False

    @property
    def pictures(self) -> tuple[tuple[int, int], ...]:
        """Height and width of everything the VAE encodes."""
        return ((self.height, self.width), *self.reference_latents)


@dataclass(frozen=True)
class Parts:
    """Work of one sample by part of the model.

    Args:
        vlm, siglip, vae, text: what is frozen; `text` are CLIP and T5, where there are any.
        conditioner, denoiser: the core.
    """

    vlm: Work
    siglip: Work
    vae: Work
    text: Work
    conditioner: Work
    denoiser: Work

    @property
    def total(self) -> Work:
        """Of the whole sample."""
        return self.vlm + self.siglip + self.vae + self.text + self.conditioner + self.denoiser


class StepFlops:
    """Counts for one model, whose `requires_grad` must be set as it is trained.

    Args:
        model: without weights, or of a loaded model (`unified_model.skeleton`); a core whose parameters are sharded by
            ZeRO-3 will do.
        recompute_every: every n-th block of the DiT is recomputed in the backward pass; 0 for none.
    """

    def __init__(self, model: Skeleton, recompute_every: int = 0) -> None:
        self._model = model
        self._conditioner = _ConditionerWork.of(model)
        self._flux: FluxWork = flux_work(
            model.core.denoiser.transformer, trains(model.core.conditioner), recompute_every
        )
        config = model.tower.siglip.config
        self.siglip_tokens = (config.image_size // config.patch_size) ** 2
        """Of one reference."""
        self._siglip = siglip_flops(model.tower.siglip)
        self._text = text_flops(model.text.clip, model.text.t5, model.t5_length)
        self.t5_tokens = 0 if model.text.t5 is None else model.t5_length
        """Of one instruction, padding included."""
        self.takes_reference_latents = model.takes_reference_latents
        """Whether the references' latents join the image sequence."""
        self._encoder: dict[tuple[int, int], float] = {}

    def context_tokens(self, row: Row) -> int:
        """Tokens of a sample's conditioning, T5's among them."""
        conditioner = self._model.core.conditioner
        return conditioner.context_tokens(row.prompt_tokens, len(row.grids) * self.siglip_tokens) + self.t5_tokens

    def image_tokens(self, row: Row) -> int:
        """Tokens of a sample's image sequence in the DiT, with those of reference latents."""
        return sum(height * width for height, width in row.pictures) // self._model.size_multiple**2

    def tokens(self, row: Row) -> int:
        """The DiT's sequence length."""
        return self.image_tokens(row) + self.context_tokens(row)

    def sample(self, row: Row, padded_prompt: int | None = None, padded_context: int | None = None) -> Parts:
        """Work of one sample.

        Args:
            padded_prompt: the prompt's tokens with padding; None for none.
            padded_context: the conditioning's tokens with padding; None for none.
        """
        prompt = row.prompt_tokens if padded_prompt is None else padded_prompt
        context = self.context_tokens(row) if padded_context is None else padded_context
        vlm = self._model.tower.vlm
        look, encode = not row.features_cached, not row.latents_cached
        return Parts(
            vlm=Work(language_flops(vlm, prompt) + sum(vision_flops(vlm, grid) for grid in row.grids) if look else 0.0),
            siglip=Work(self._siglip * len(row.grids) * look),
            vae=Work(sum(self._encode(*picture) for picture in row.pictures) if encode else 0.0),
            text=Work(self._text),
            conditioner=self._conditioner(prompt, len(row.grids) * self.siglip_tokens),
            denoiser=self._flux(self.image_tokens(row), context),
        )

    def model_flops(self, rows: Sequence[Row]) -> float:
        """What the samples need: no padding, no recomputation."""
        return sum(self.sample(row).total.model for row in rows)

    def hardware_flops(self, rows: Sequence[Row]) -> float:
        """What the device is made to do for one micro-batch, whose rows are padded to the longest."""
        prompt = max(row.prompt_tokens for row in rows)
        context = max(self.context_tokens(row) for row in rows)
        return sum(self.sample(row, prompt, context).total.hardware for row in rows)

    def _encode(self, height: int, width: int) -> float:
        size = (height, width)
        if size not in self._encoder:
            self._encoder[size] = encoder_flops(self._model.codec.vae, height, width)
        return self._encoder[size]


@dataclass(frozen=True)
class _ConditionerWork:
    """Work of the conditioner's linear layers for each token of the prompt, of SigLIP, and of both brought together."""

    conditioner: Conditioner
    prompt: Work
    image: Work
    stream: Work

    @classmethod
    def of(cls, model: Skeleton) -> _ConditionerWork:
        conditioner = model.core.conditioner
        work = {"prompt": Work(), "image": Work(), "stream": Work()}
        for name, child in conditioner.named_children():
            work[conditioner.sees.get(name, "stream")] += linear_work(child, input_grad=False)
        return cls(conditioner, **work)

    def __call__(self, prompt: int, images: int) -> Work:
        stream = self.conditioner.stream_tokens(prompt, images)
        return self.prompt * prompt + self.image * images + self.stream * stream
