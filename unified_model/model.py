"""The whole model: understanding tower, core (conditioner and denoiser) and latent codec, with saving and loading."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import Tensor, nn

from schemas.errors import ConfigError, InputError
from unified_model.adapters import save_adapter, without_adapters
from unified_model.assembly import load_parts
from unified_model.card import ADAPTER_PARTS, CORE_PARTS, OPTIONAL_PARTS, PARTS, ModelCard, read_card, write_card
from unified_model.codec import LatentCodec
from unified_model.components import forget_origin, load_component, save_tokenizer
from unified_model.conditioners import load_conditioner
from unified_model.config import UnifiedModelConfig
from unified_model.core import EditCore
from unified_model.features import EditFeatures, EditInputs, ReferenceLatents
from unified_model.processor import EditProcessor
from unified_model.quantisation import NOT_QUANTISED, Quantisation
from unified_model.text_encoders import TextEncoders
from unified_model.understanding import QwenSiglipTower, UnderstandingTower
from unified_model.vlm_processor import save_vlm_processor


class UnifiedEditModel(nn.Module):
    """An editing model made of real library parts.

    Attributes:
        tower: the frozen understanding tower.
        core: the `EditCore`, everything that may be trained.
        codec: the frozen `LatentCodec`.
        processor: the `EditProcessor`.
        scheduler: a `FlowMatchEulerDiscreteScheduler`, as a holder of its config.
        text: the frozen `TextEncoders`; holds none where the model has none.
        takes_reference_latents: whether the denoiser is to see the references' latents beside the noisy ones.
        source: the folder the model was loaded from or last saved to as a whole; None where neither.
        core_source: the folder that the core was loaded from, whole model or not; None where it was not loaded.
    """

    def __init__(
        self,
        tower: QwenSiglipTower,
        core: EditCore,
        codec: LatentCodec,
        processor: EditProcessor,
        scheduler: FlowMatchEulerDiscreteScheduler,
        text: TextEncoders | None = None,
        takes_reference_latents: bool = False,
        source: str | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.core = core
        self.codec = codec
        self.processor = processor
        self.scheduler = scheduler
        self.text = text or TextEncoders()
        self.takes_reference_latents = takes_reference_latents
        self.source = source
        self.core_source = source

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this (16 for FLUX)."""
        return self.codec.stride * self.core.denoiser.patch

    @property
    def device(self) -> torch.device:
        """The device of the core's parameters."""
        return next(self.core.parameters()).device

    def features(self, inputs: EditInputs) -> EditFeatures:
        """The frozen towers' features of a batch; no gradient."""
        tower: UnderstandingTower = self.tower
        return replace(
            tower(inputs), t5_tokens=self.text.tokens(inputs.t5_ids), pooled=self.text.pooled(inputs.clip_ids)
        )

    def reference_latents(self, pixels: Tensor, rows: Tensor) -> ReferenceLatents | None:
        """References as the denoiser takes them; None where there is none, or where this model takes none.

        Args:
            pixels: (N, 3, H, W) uint8, sides as for `size_multiple`.
            rows: (N,) int64, as in `ReferenceLatents`.
        """
        if not self.takes_reference_latents or not len(rows):
            return None
        return ReferenceLatents(self.codec.encode(pixels.float() / 127.5 - 1.0), rows)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, dtype: torch.dtype = torch.float32, quantisation: Quantisation = NOT_QUANTISED
    ) -> UnifiedEditModel:
        """Load a folder written by `save_pretrained`. For a folder of core weights see `unified_model.loading`.

        Raises:
            InputError: the folder, its card or one of its parts is missing.
        """
        folder = Path(path).expanduser().absolute()
        missing = [part for part in PARTS if part not in read_card(folder).parts]
        if missing:
            raise InputError(
                "model folder",
                str(folder),
                f"is no whole model, it lacks {', '.join(missing)}",
                "Load it with unified_model.loading.load_for_inference.",
            )
        model = cls.from_components(UnifiedModelConfig.of_folder(folder), dtype, quantisation)
        model.source = model.core_source = str(folder)
        return model

    @classmethod
    def from_components(
        cls, config: UnifiedModelConfig, dtype: torch.dtype = torch.float32, quantisation: Quantisation = NOT_QUANTISED
    ) -> UnifiedEditModel:
        """Put a model together from its components, with fresh connectors where the config names none.

        Raises:
            InputError: a component is no folder and no hub name.
            ConfigError: an unknown conditioner, or components whose widths do not fit.
        """
        return cls(*load_parts(config, dtype, quantisation), takes_reference_latents=config.takes_reference_latents)

    @property
    def parts(self) -> tuple[str, ...]:
        """Subfolders that the whole model is saved in."""
        held = {"clip": self.text.clip, "t5": self.text.t5}
        return (*PARTS, *(part for part in OPTIONAL_PARTS if held[part] is not None))

    def save_pretrained(self, path: str | Path, parts: Iterable[str] | None = None, base: str | None = None) -> None:
        """Save in the Hugging Face layout, weights as safetensors. The same model gives the same bytes. Adapters are
        folded into the weights.

        `vlm/` and `siglip/` hold their processors too, so that each is complete by itself.

        Args:
            parts: which of `self.parts` to save; by default all.
            base: the whole model that other parts come from, written to the card; needed to load a folder that does
                not hold every part.

        Raises:
            ConfigError: an unknown part.
        """
        wanted = set(self.parts if parts is None else parts)
        chosen = tuple(part for part in self.parts if part in wanted)
        unknown = sorted(wanted - set(chosen))
        if unknown:
            raise ConfigError("parts", unknown[0], "is not a part", f"Parts are {', '.join(self.parts)}.")
        folder = Path(path).expanduser().absolute()
        vlm_processor, siglip_processor = self.processor.vlm_processor, self.processor.siglip_processor
        writers: dict[str, list[Any]] = {
            "vlm": [self.tower.vlm.save_pretrained, lambda place: save_vlm_processor(vlm_processor, Path(place))],
            "processor": [lambda place: save_vlm_processor(vlm_processor, Path(place))],
            "siglip": [self.tower.siglip.save_pretrained, siglip_processor.save_pretrained],
            "siglip_processor": [siglip_processor.save_pretrained],
            "conditioner": [without_adapters(self.core.conditioner).save_pretrained],
            "transformer": [without_adapters(self.core.denoiser.transformer).save_pretrained],
            "vae": [self.codec.vae.save_pretrained],
            "scheduler": [self.scheduler.save_pretrained],
        }
        tokenizers = self.processor.text
        for part, encoder, tokenizer in (
            ("clip", self.text.clip, tokenizers.clip),
            ("t5", self.text.t5, tokenizers.t5),
        ):
            if encoder is not None:
                writers[part] = [encoder.save_pretrained, partial(save_tokenizer, tokenizer)]
        for part in chosen:
            (folder / part).mkdir(parents=True, exist_ok=True)
            for write in writers[part]:
                write(str(folder / part))
            forget_origin(folder / part)
        write_card(folder, self._card(chosen, base))
        if chosen == self.parts:
            self.source = str(folder)

    def save_core(self, path: str | Path, base: str | None = None) -> None:
        """Save only what may be trained (`conditioner/`, `transformer/`) and a card naming the model it belongs to.

        Args:
            base: folder of the whole model; by default the folder this model came from.

        Raises:
            ConfigError: the model came from no folder, and no `base` is given.
        """
        named = base or self.source
        if named is None:
            raise ConfigError("base", None, "must name the folder of the whole model", "Save the whole model first.")
        self.save_pretrained(path, CORE_PARTS, named)

    def save_adapter(self, path: str | Path) -> None:
        """Save the adapters of the DiT (`adapter/`, see `unified_model.adapters`), the whole conditioner
        (`conditioner/`, its own adapters folded in) and a card naming the model that the adapters belong to.

        Raises:
            ConfigError: the model came from no folder, or its DiT holds no adapters.
        """
        if self.core_source is None:
            raise ConfigError("base", None, "must name the model that was adapted", "Save and load that model first.")
        folder, transformer = Path(path).expanduser().absolute(), self.core.denoiser.transformer
        save_adapter(transformer, folder / "adapter", self.core_source)
        without_adapters(self.core.conditioner).save_pretrained(str(folder / "conditioner"))
        forget_origin(folder / "conditioner")
        write_card(folder, self._card(ADAPTER_PARTS, self.core_source))

    def _card(self, parts: tuple[str, ...], base: str | None) -> ModelCard:
        return ModelCard(
            parts=parts,
            base=base,
            takes_reference_latents=self.takes_reference_latents,
            t5_length=self.processor.text.t5_length,
            prompt_version=self.processor.prompt_version,
        )

    def load_core(self, path: str | Path) -> None:
        """Put the weights of a folder that holds `conditioner/` and `transformer/` into this model's core, in place.

        Devices and dtypes stay as they are.

        Raises:
            InputError: a part is missing, or its shapes do not fit this model.
        """
        folder = Path(path).expanduser().absolute()
        read_card(folder)
        conditioner, transformer = self.core.conditioner, self.core.denoiser.transformer
        saved = load_conditioner(folder / "conditioner", torch_dtype=conditioner.dtype)
        _copy_weights(saved, conditioner, folder / "conditioner")
        loaded = load_component(FluxTransformer2DModel, str(folder / "transformer"), torch_dtype=transformer.dtype)
        _copy_weights(loaded, transformer, folder / "transformer")


def _copy_weights(source: nn.Module, target: nn.Module, place: Path) -> None:
    ours, theirs = target.state_dict(), source.state_dict()
    shapes = ({name: tuple(value.shape) for name, value in state.items()} for state in (ours, theirs))
    expected, found = shapes
    if expected != found:
        odd = sorted(set(expected.items()) ^ set(found.items()))[0]
        raise InputError("core weights", str(place), f"do not fit the model at {odd[0]}", "Use the base it came from.")
    target.load_state_dict(theirs)
