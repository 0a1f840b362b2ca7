"""A trained model as one folder that diffusers and transformers load by themselves, with a README that shows how."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

import torch
from safetensors import safe_open

from schemas.atomic import sync_folder, write_bytes, writing
from schemas.errors import InputError
from unified_model.adapters import apply_adapter
from unified_model.card import CORE_PARTS, OPTIONAL_PARTS, ModelCard, read_card, write_card
from unified_model.checkpoint import Lineage, Weights, checkpoint_folder, lineage_of
from unified_model.components import forget_origin, load_component
from unified_model.conditioners import MlpConditioner
from unified_model.prompt import PROMPTS

README = "README.md"
_LOADERS = {"clip": "transformers.CLIPTextModel", "t5": "transformers.T5EncoderModel"}


def export_model(
    path: str | Path, output: str | Path, weights: Weights | None = None, *, base: str | Path | None = None
) -> Path:
    """Write every part of a checkpoint into one folder; adapters are folded into the DiT.

    Parts that training left alone are copied as they are. The folder appears once it is whole, and is itself a model
    folder.

    Args:
        path, weights, base: as in `unified_model.loading.load_for_inference`.
        output: a new folder.

    Returns:
        `output`, absolute.

    Raises:
        InputError: a folder or a part is missing, or something stands at `output`.
        OutputError: it cannot be written.
    """
    folder = checkpoint_folder(path, weights)
    origin = lineage_of(folder, base)
    final = Path(output).expanduser().absolute()
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise InputError("output", str(output), "is there already", "Name a new or empty folder.")
    whole = read_card(origin.whole)
    own = read_card(folder)
    card = ModelCard(
        parts=whole.parts,
        takes_reference_latents=own.takes_reference_latents,
        t5_length=whole.t5_length,
        prompt_version=own.prompt_version,
    )
    aside = final.with_name(f".{final.name}.partial")
    with writing(final):
        shutil.rmtree(aside, ignore_errors=True)
        for part in card.parts:
            if part not in CORE_PARTS:
                shutil.copytree(origin.whole / part, aside / part)
        shutil.copytree(origin.conditioner / "conditioner", aside / "conditioner")
        _write_transformer(origin, aside / "transformer")
        write_bytes(aside / README, _readme(aside, card, folder).encode())
        write_card(aside, card)
        if final.is_dir():
            final.rmdir()
        aside.replace(final)
        sync_folder(final.parent)
    return final


def _write_transformer(origin: Lineage, place: Path) -> None:
    if not origin.adapters:
        shutil.copytree(origin.transformer / "transformer", place)
        return
    from diffusers import FluxTransformer2DModel

    # In the dtype that it was saved in: to merge in another would round twice.
    dtype = _dtype_of(origin.transformer / "transformer")
    transformer = load_component(FluxTransformer2DModel, str(origin.transformer / "transformer"), torch_dtype=dtype)
    for adapter in origin.adapters:
        apply_adapter(transformer, adapter / "adapter")
    transformer.save_pretrained(str(place))
    forget_origin(place)


def _dtype_of(folder: Path) -> torch.dtype:
    first = min(folder.glob("*.safetensors"))
    with safe_open(first, "pt") as weights:
        dtype: torch.dtype = weights.get_tensor(next(iter(weights.keys()))).dtype
    return dtype


def _readme(folder: Path, card: ModelCard, source: Path) -> str:
    shapes = []
    for file in sorted((folder / "conditioner").glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            shapes += [(name, weights.get_slice(name).get_shape()) for name in sorted(weights.keys())]
    optional = "".join(
        f"| `{part}/` | text encoder, with its tokenizer | `{_LOADERS[part]}` |\n"
        for part in OPTIONAL_PARTS
        if part in card.parts
    )
    kind = json.loads((folder / "conditioner" / "config.json").read_text(encoding="utf-8"))["_class_name"]
    use = ""
    # The example's connectors are those of this class; another one's would be connected otherwise.
    if kind == MlpConditioner.__name__:
        example = files("unified_model").joinpath("export_example.py.txt").read_text(encoding="utf-8")
        layout = PROMPTS[card.prompt_version]
        values = {"system": layout.system, "separator": layout.separator, "version": card.prompt_version}
        example = Template(example).substitute({name: repr(value) for name, value in values.items()})
        use = f"\n## Editing an image with it\n\n```python\n{example}```\n"
    template = files("unified_model").joinpath("export_readme.md").read_text(encoding="utf-8")
    return template.format(
        name=f"`{source.parent.name}/{source.name}`",
        version=version("editmill"),
        optional=optional,
        connectors="\n".join(f"| `{name}` | {' x '.join(map(str, shape))} |" for name, shape in shapes),
        use=use,
    )
