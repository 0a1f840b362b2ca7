"""The whole model: understanding tower, core (conditioner and denoiser) and latent codec, with saving and loading."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import nn
from transformers import AutoImageProcessor, Qwen2_5_VLForConditionalGeneration, SiglipVisionModel

from schemas.errors import ConfigError, InputError
from unified_model.adapters import save_adapter, without_adapters
from unified_model.card import ADAPTER_PARTS, CORE_PARTS, PARTS, ModelCard, read_card, write_card
from unified_model.codec import LatentCodec
from unified_model.components import forget_origin, locate
from unified_model.conditioners import CONDITIONERS, Conditioner, Widths, load_conditioner
from unified_model.config import UnifiedModelConfig
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.features import EditFeatures, EditInputs
from unified_model.processor import EditProcessor
from unified_model.understanding import QwenSiglipTower, UnderstandingTower
from unified_model.vlm_processor import load_vlm_processor, save_vlm_processor

FLUX_SCHEDULER = {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True}
"""FLUX.1-dev's scheduler, where a model names none."""


class UnifiedEditModel(nn.Module):
    """An editing model made of real library parts.

    Attributes:
        tower: the frozen understanding tower.
        core: the `EditCore`, everything that may be trained.
        codec: the frozen `LatentCodec`.
        processor: the `EditProcessor`.
        scheduler: a `FlowMatchEulerDiscreteScheduler`, as a holder of its config.
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
        source: str | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.core = core
        self.codec = codec
        self.processor = processor
        self.scheduler = scheduler
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
        return tower(inputs)

    @classmethod
    def from_pretrained(cls, path: str | Path, dtype: torch.dtype = torch.float32) -> UnifiedEditModel:
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
        model = cls.from_components(UnifiedModelConfig.of_folder(folder), dtype)
        model.source = model.core_source = str(folder)
        return model

    @classmethod
    def from_components(cls, config: UnifiedModelConfig, dtype: torch.dtype = torch.float32) -> UnifiedEditModel:
        """Put a model together from its components, with fresh connectors where the config names none.

        Raises:
            InputError: a component is no folder and no hub name.
            ConfigError: an unknown conditioner, or components whose widths do not fit.
        """
        if config.conditioner_kind not in CONDITIONERS:
            raise ConfigError(
                "conditioner_kind", config.conditioner_kind, "is not known", f"Known: {', '.join(CONDITIONERS)}."
            )
        # Every local path is looked at before the first large file is read.
        given = [str(value) for name, value in config if name in PARTS and value is not None]
        for source in given:
            locate(source)
        processor = EditProcessor(
            load_vlm_processor(config.processor or config.vlm, config.min_pixels, config.max_pixels),
            _load(AutoImageProcessor, config.siglip_processor or config.siglip, backend="pil"),
        )
        vlm = _load(Qwen2_5_VLForConditionalGeneration, config.vlm, dtype=dtype)
        siglip = _load(SiglipVisionModel, config.siglip, dtype=dtype)
        denoiser = FluxDenoiser(_load(FluxTransformer2DModel, config.transformer, torch_dtype=dtype))
        vae = _load(AutoencoderKL, config.vae, torch_dtype=dtype)
        widths = Widths(
            vlm.config.text_config.hidden_size,
            siglip.config.hidden_size,
            denoiser.context_width,
            denoiser.pooled_width,
        )
        conditioner: Conditioner
        if config.conditioner is not None:
            conditioner = load_conditioner(config.conditioner, torch_dtype=dtype)
        else:
            with torch.random.fork_rng():
                torch.manual_seed(config.conditioner_seed)
                conditioner = CONDITIONERS[config.conditioner_kind].fresh(widths)
                # diffusers' own `to` would warn of modules to be kept in float32, of which there are none.
                nn.Module.to(conditioner, dtype)
        if conditioner.widths != widths:
            raise ConfigError(
                "conditioner", conditioner.widths, f"must fit the other components: {widths}", "Choose parts that fit."
            )
        if config.scheduler is not None:
            scheduler = _load(FlowMatchEulerDiscreteScheduler, config.scheduler)
        else:
            scheduler = FlowMatchEulerDiscreteScheduler(**FLUX_SCHEDULER)
        core = EditCore(conditioner, denoiser)
        return cls(QwenSiglipTower(vlm, siglip), core, LatentCodec(vae), processor, scheduler)

    def save_pretrained(self, path: str | Path, parts: Iterable[str] = PARTS, base: str | None = None) -> None:
        """Save in the Hugging Face layout, weights as safetensors. The same model gives the same bytes. Adapters are
        folded into the weights.

        `vlm/` and `siglip/` hold their processors too, so that each is complete by itself.

        Args:
            parts: which of `PARTS` to save.
            base: the whole model that other parts come from, written to the card; needed to load a folder that does
                not hold every part.

        Raises:
            ConfigError: an unknown part.
        """
        chosen = tuple(part for part in PARTS if part in set(parts))
        unknown = sorted(set(parts) - set(PARTS))
        if unknown:
            raise ConfigError("parts", unknown[0], "is not a part", f"Parts are {', '.join(PARTS)}.")
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
        for part in chosen:
            (folder / part).mkdir(parents=True, exist_ok=True)
            for write in writers[part]:
                write(str(folder / part))
            forget_origin(folder / part)
        write_card(folder, ModelCard(parts=chosen, base=base))
        if chosen == PARTS:
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
        write_card(folder, ModelCard(parts=ADAPTER_PARTS, base=self.core_source))

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
        loaded = _load(FluxTransformer2DModel, str(folder / "transformer"), torch_dtype=transformer.dtype)
        _copy_weights(loaded, transformer, folder / "transformer")


def _load(component: Any, source: str, **keywords: Any) -> Any:
    found = locate(source)
    return component.from_pretrained(found.name, **found.subfolder, **keywords)


def _copy_weights(source: nn.Module, target: nn.Module, place: Path) -> None:
    ours, theirs = target.state_dict(), source.state_dict()
    shapes = ({name: tuple(value.shape) for name, value in state.items()} for state in (ours, theirs))
    expected, found = shapes
    if expected != found:
        odd = sorted(set(expected.items()) ^ set(found.items()))[0]
        raise InputError("core weights", str(place), f"do not fit the model at {odd[0]}", "Use the base it came from.")
    target.load_state_dict(theirs)
