"""A model of ours in the layout of the UniWorld-V1 release, so that the release's own code runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from schemas.atomic import sync_folder, write_json, writing
from schemas.errors import InputError
from schemas.folders import check_can_be_folder, check_holds_only
from unified_model.card import read_card
from unified_model.checkpoint import Lineage
from unified_model.release.convert import PROMPT
from unified_model.release.keys import Part, map_keys, refuse
from unified_model.release.weights import INDEX, StoredWeights, open_weights
from unified_model.release.writing import SHARD_BYTES, plan_shards


def write_as_release(origin: Lineage, release: Path, output: Path) -> Path:
    """Write the release once more, with our weights in the place of its own.

    Config, tokenizer and the weights that nothing of ours reads are the release's; the names and shapes of all weights
    are, too. Ours keep their dtype.

    Args:
        origin: a checkpoint whose DiT has no adapters beside it.
        release: folder of the release ("LanguageBind/UniWorld-V1", downloaded).
        output: a new or empty folder.

    Returns:
        `output`, absolute.

    Raises:
        InputError: adapters; a model that hears another prompt than the release; weights that are missing or have
            another shape, all listed; something stands at `output`.
        OutputError: it cannot be written.
    """
    if origin.adapters:
        raise InputError(
            "checkpoint",
            str(origin.adapters[-1]),
            "is an adapter",
            "Export it, and give the folder that results.",
        )
    card = read_card(origin.conditioner)
    if card.prompt_version != PROMPT:
        raise InputError(
            "checkpoint", f"prompt version {card.prompt_version}", f"the release hears version {PROMPT}",
            "Give a model that was converted from it, or trained on from there.",
        )  # fmt: skip
    final = output.expanduser().absolute()
    check_can_be_folder(final, "output")
    check_holds_only(final, "output", (), "no export")
    theirs = open_weights(release)
    mapped = map_keys(theirs.shapes, str(release))
    sources: list[tuple[StoredWeights, dict[str, str]]] = []
    places: dict[Part, Path] = {
        "vlm": origin.whole, "conditioner": origin.conditioner, "transformer": origin.transformer
    }  # fmt: skip
    for part, place in places.items():
        ours = open_weights(place / part)
        stands = _names(ours, part)
        wanted = {name: theirs.shapes[key] for name, key in mapped.parts[part].items()}
        _check(ours, stands, wanted)
        sources.append((ours, {key: stands[name] for name, key in mapped.parts[part].items()}))
    sources.append((theirs, {name: name for held in mapped.unread.values() for name in held}))
    aside = final.with_name(f".{final.name}.partial")
    with writing(final):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for path in sorted(release.iterdir()):
            if path.is_file() and ".safetensors" not in path.name:
                shutil.copyfile(path, aside / path.name)
        _write(aside, theirs, sources)
        if final.is_dir():
            final.rmdir()
        aside.replace(final)
        sync_folder(final.parent)
    return final


def _names(ours: StoredWeights, part: Part) -> dict[str, str]:
    """Name in our module -> name in its file: transformers saves Qwen2.5-VL under the names of its publication."""
    if part == "vlm":
        return dict(map_keys(ours.shapes, str(ours.place)).parts["vlm"])
    return {name: name for name in ours.shapes}


def _check(ours: StoredWeights, stands: dict[str, str], wanted: dict[str, tuple[int, ...]]) -> None:
    refuse(sorted(wanted.keys() - stands.keys()), str(ours.place), "are missing, which the release has")
    refuse(
        [
            f"{name} {ours.shapes[stands[name]]}, needed {shape}"
            for name, shape in sorted(wanted.items())
            if ours.shapes[stands[name]] != shape
        ],
        str(ours.place),
        "have another shape than the release's",
    )


def _write(folder: Path, theirs: StoredWeights, sources: list[tuple[StoredWeights, dict[str, str]]]) -> None:
    """`sources`: weights, and the release's name of each -> its name there."""
    # As if all were in 32 bits, so that a shard is never larger than planned.
    shards = plan_shards(theirs.shapes, torch.float32.itemsize, SHARD_BYTES)
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    total = 0
    for file, keys in zip(files, shards, strict=True):
        held = {}
        for weights, names in sources:
            back = {names[key]: key for key in keys if key in names}
            held.update({back[name]: value.contiguous() for name, value in weights.read(back)})
        total += sum(value.numel() * value.element_size() for value in held.values())
        save_file(held, folder / file, metadata={"format": "pt"})
    listed = {key: file for file, keys in zip(files, shards, strict=True) for key in keys}
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": listed})
