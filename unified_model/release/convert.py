"""The UniWorld-V1 release -> a model folder of ours. Large weights pass through memory one shard at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from diffusers import FluxTransformer2DModel
from transformers.utils import GENERATION_CONFIG_NAME

from schemas.atomic import sync_folder, writing
from schemas.config import Config
from schemas.folders import check_can_be_folder, check_holds_only
from unified_model.card import OPTIONAL_PARTS, PARTS, ModelCard, write_card
from unified_model.components import forget_origin
from unified_model.conditioners import MlpConditioner
from unified_model.release.download import release_folder
from unified_model.release.keys import KeyRule, MappedKeys, map_keys
from unified_model.release.layout import ReleaseLayout, check_fit, read_layout
from unified_model.release.surroundings import Surroundings, check_surroundings, write_surroundings
from unified_model.release.weights import StoredWeights, open_weights
from unified_model.release.writing import write_renamed

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
T5_LENGTH = 256
"""T5 tokens in the release's inference."""
PROMPT = 2
"""Version of the prompt that the release hears."""

OnWeights = Callable[[int, int], None]
"""Called with (elements converted, elements in all)."""


class ReleaseConfig(Config):
    """A conversion. Every place is a local folder or a hub name."""

    release: str
    """Folder of the release, with its `config.json` ("LanguageBind/UniWorld-V1")."""

    siglip: str = "google/siglip2-so400m-patch16-512"
    """SigLIP2 vision tower, which the release does not hold."""

    flux: str = "black-forest-labs/FLUX.1-dev"
    """FLUX.1, for what the release does not hold: VAE, scheduler, and the text encoders."""

    text_encoders: bool = False
    """Whether CLIP and T5 become parts of the model, as the release adds them in inference. Without them the model is
    conditioned on CLIP's pooled embedding of an empty text, as in the release's training."""

    takes_reference_latents: bool = False
    """Whether the denoiser is to see the references' latents too. The release was not trained so: for training on."""

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the weights that are written."""


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Args:
        folder: the model.
        parts: of each part that the release holds, its tensors and its parameters.
        unread: weights of the release that no model reads, by the rule that says why.
    """

    folder: Path
    parts: dict[str, tuple[int, int]]
    unread: dict[KeyRule, tuple[str, ...]]


def convert_release(config: ReleaseConfig, output: Path, on_weights: OnWeights | None = None) -> Conversion:
    """Write the release as a model folder, which appears under its name once it is whole.

    Every key and shape is checked before anything is written.

    Args:
        output: a new or empty folder.

    Raises:
        InputError: a place is missing, keys that do not map, weights that are missing or misshapen; all are listed.
        ConfigError: SigLIP or FLUX do not fit the release.
        OutputError: it cannot be written.
    """
    output = output.expanduser().absolute()
    check_can_be_folder(output, "output")
    check_holds_only(output, "output", (), "no conversion")
    folder = release_folder(config.release)
    weights = open_weights(folder)
    mapped = map_keys(weights.shapes, str(folder))
    layout = read_layout(folder, weights, mapped)
    check_fit(layout, weights, mapped)
    around = Surroundings(folder, config.siglip, config.flux, config.text_encoders, DTYPES[config.dtype])
    check_surroundings(around, layout)
    aside = output.with_name(f".{output.name}.partial")
    with writing(output):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        conditioner = _write_weights(aside, weights, mapped, layout, DTYPES[config.dtype], on_weights)
        if (folder / GENERATION_CONFIG_NAME).is_file():
            shutil.copyfile(folder / GENERATION_CONFIG_NAME, aside / "vlm" / GENERATION_CONFIG_NAME)
        write_surroundings(around, aside, conditioner)
        _finish(aside, config)
        if output.exists():
            output.rmdir()
        aside.replace(output)
        sync_folder(output.parent)
    counts: dict[str, tuple[int, int]] = {
        part: (len(keys), weights.elements(keys.values())) for part, keys in mapped.parts.items()
    }
    return Conversion(output, counts, dict(mapped.unread))


def _write_weights(
    folder: Path,
    weights: StoredWeights,
    mapped: MappedKeys,
    layout: ReleaseLayout,
    dtype: torch.dtype,
    on_weights: OnWeights | None,
) -> MlpConditioner:
    """Write `vlm/` and `transformer/`, and give back the conditioner, whose pooled vector is still to come."""
    total = sum(weights.elements(keys.values()) for keys in mapped.parts.values())
    done = 0

    def count(elements: int) -> None:
        nonlocal done
        done += elements
        if on_weights is not None:
            on_weights(done, total)

    places = {part: folder / part for part in ("vlm", "transformer")}
    for place in places.values():
        place.mkdir()
    layout.vlm.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    layout.vlm.dtype = dtype
    layout.vlm.save_pretrained(places["vlm"])
    write_renamed(places["vlm"], "model", weights, mapped.parts["vlm"], dtype, count)
    with torch.device("meta"):
        FluxTransformer2DModel.from_config(layout.transformer).save_config(places["transformer"])
    stem = "diffusion_pytorch_model"
    write_renamed(places["transformer"], stem, weights, mapped.parts["transformer"], dtype, count)
    conditioner = MlpConditioner(**layout.conditioner)
    back = {old: new for new, old in mapped.parts["conditioner"].items()}
    state = {back[old]: value for old, value in weights.read(back)}
    conditioner.load_state_dict({"pooled": conditioner.pooled, **state})
    count(weights.elements(back))
    return conditioner


def _finish(folder: Path, config: ReleaseConfig) -> None:
    parts = tuple(part for part in (*PARTS, *OPTIONAL_PARTS) if (folder / part).is_dir())
    for part in parts:
        forget_origin(folder / part)
    card = ModelCard(
        parts=parts,
        takes_reference_latents=config.takes_reference_latents,
        t5_length=T5_LENGTH,
        prompt_version=PROMPT,
    )
    write_card(folder, card)
