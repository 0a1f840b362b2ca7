"""The dataset card: README.md of a packed folder, in the layout of the Hugging Face hub.

It is made from the manifest alone, so it is the same whenever and wherever it is made; a lost one can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from pipelines.pack.card_front import front_matter
from pipelines.pack.card_reading import reading
from pipelines.pack.markdown import code, plain, table
from schemas.manifest import ShardManifest

Entry = Mapping[str, Any]

_TITLES = {"EditSample": "Edit samples", "ImageRecord": "Images with captions"}


def dataset_card(manifest: ShardManifest) -> str:
    """The card of a packed folder: YAML front matter, then Markdown. No times and no paths of the machine."""
    title = manifest.config.get("title") or _TITLES[manifest.record]
    sections = (
        ("", _beginning(manifest)),
        ("Sources and licences", _sources(manifest)),
        ("Rows, from the first to the last", _rows(manifest)),
        ("Masks", _masks(manifest)),
        ("What models wrote", _written(manifest)),
        ("How it was made", _made(manifest)),
        ("Reading", reading(manifest)),
    )
    body = "\n".join(f"## {name}\n\n{text}" if name else text for name, text in sections if text)
    return f"{front_matter(manifest, title)}\n# {plain(title)}\n\n{body}"


def _beginning(manifest: ShardManifest) -> str:
    what = "pairs of images before and after an edit, each with its instruction and the mask of what was edited"
    if manifest.record != "EditSample":
        what = "images with captions"
    size = sum(entry.bytes for entry in manifest.shards)
    told = f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
    text = f"{manifest.kept:,} samples, {told} in {len(manifest.shards):,} shards: {what}.\n"
    if manifest.subsets is not None:
        asked = manifest.config["subsets"]
        has_rules = not all(isinstance(value, float) for value in asked.values())
        by = "sample by sample"
        if manifest.config["subset_by"] == "images":
            by = "so that samples which share an image, directly or through others, are in the same one"
        text += f"\nShares of subsets are drawn {by}."
        text += " A rule looks at the sample alone.\n\n" if has_rules else "\n\n"
        rows = [
            (name, samples, _share(samples, manifest.kept), _asked(asked[name], has_rules))
            for name, samples in manifest.subsets.items()
        ]
        text += table(("subset", "samples", "share", "asked for"), rows)
    return text


def _sources(manifest: ShardManifest) -> str:
    entries = _of(manifest, "sources")
    rows = [
        (
            _others(entry) or entry["source"],
            entry.get("licence"),
            entry["samples"],
            _share(entry["samples"], manifest.kept),
        )
        for entry in entries
    ]
    text = table(("source", "licence", "samples", "share"), rows)
    missing = sum(entry["samples"] for entry in entries if "others" not in entry and entry["licence"] is None)
    text += "\nThe licence is what each collection says of itself; images inside may have others."
    if missing:
        text += f" For {missing:,} samples none is stated."
    types = [(_others(entry) or entry["edit_type"], entry["samples"]) for entry in _of(manifest, "edit_types")]
    if any(kind is not None for kind, _ in types):
        text += "\n\n" + table(("kind of edit", "samples"), types)
    return text.rstrip("\n") + "\n"


def _rows(manifest: ShardManifest) -> str:
    steps = [(step.name, step.rows_in, step.kept, step.rejected) for step in manifest.history or ()]
    steps.append(("pack", manifest.rows_in, manifest.kept, manifest.rejected))
    counts = [(name, rows_in, kept, rows_in - kept) for name, rows_in, kept, _ in steps]
    text = table(("step", "in", "kept", "rejected"), counts)
    if manifest.history is None:
        text += "\nWhat was rejected before packing is not known here.\n"
    reasons = [
        (name, reason, rows)
        for name, _, _, rejected in steps
        for reason, rows in sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    ]
    return text + ("\n" + table(("rejected by", "reason", "rows"), reasons) if reasons else "")


def _masks(manifest: ShardManifest) -> str:
    if manifest.record != "EditSample" or not manifest.kept:
        return ""
    text = "White is edited. The edited fraction is counted at full resolution.\n\n"
    text += table(("mask status", "samples"), _counts(manifest, "mask_statuses", "mask_status")) + "\n"
    areas = sorted(_of(manifest, "edited_areas"), key=lambda entry: float(entry["to"]))
    rows = [(f"{entry['above']:.1%} to {entry['to']:.1%}", entry["samples"]) for entry in areas]
    text += table(("edited fraction", "samples"), rows) + "\n"
    for entry in _of(manifest, "mask_recipes"):
        if "others" in entry:
            text += f"{_others(entry)}: {entry['samples']:,} samples.\n"
            continue
        named = f"Recipe {plain(entry['recipe'])}, version {entry['recipe_version']}: {entry['samples']:,} samples."
        text += f"{named}\n\n{code(_yaml_of(entry['parameters']), 'yaml')}\n"
    return text.rstrip("\n") + "\n"


def _written(manifest: ShardManifest) -> str:
    rows = [
        ("text" if _others(entry) else f"text: {entry['kind']}", *_writer(entry)) for entry in _of(manifest, "captions")
    ]
    rows += [
        ("scores" if _others(entry) else f"scores: {', '.join(entry['scores'])}", *_writer(entry))
        for entry in _of(manifest, "judges")
    ]
    return table(("what", "model", "prompt", "SHA-256 of the prompt", "samples"), rows)


def _made(manifest: ShardManifest) -> str:
    steps: list[dict[str, Any]] = [
        {step.name: {"version": step.version, **step.config}} for step in manifest.history or ()
    ]
    steps.append({"pack": manifest.config})
    text = "By editmill, with these steps in this order"
    text += "" if manifest.history is not None else ", of which only the packing is known here"
    dumped = yaml.safe_dump(steps, sort_keys=True, allow_unicode=True, width=110)
    return f"{text}. The same input and config give the same bytes.\n\n{code(dumped, 'yaml')}"


def _writer(entry: Entry) -> tuple[Any, ...]:
    if "others" in entry:
        return _others(entry), None, None, entry["samples"]
    version = "" if entry["prompt_version"] is None else f" v{entry['prompt_version']}"
    prompt = None if entry["prompt"] is None else f"{entry['prompt']}{version}"
    digest = entry["prompt_sha256"]
    return entry["model"], prompt, None if digest is None else digest[:16], entry["samples"]


def _of(manifest: ShardManifest, topic: str) -> list[dict[str, Any]]:
    return (manifest.contents or {}).get(topic, [])


def _counts(manifest: ShardManifest, topic: str, name: str) -> list[tuple[Any, int]]:
    return [(_others(entry) or entry[name], entry["samples"]) for entry in _of(manifest, topic)]


def _others(entry: Entry) -> str | None:
    return f"{entry['others']:,} others" if "others" in entry else None


def _asked(value: Any, has_rules: bool) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" + (" of those that no rule takes" if has_rules else "")
    return ", ".join(f"{name} {given}" for name, given in sorted(value.items()) if given not in (None, []))


def _share(samples: int, of: int) -> str:
    return f"{samples / of:.1%}" if of else "–"


def _yaml_of(parameters: str) -> str:
    """Canonical JSON as YAML; text that is none as it is."""
    try:
        return yaml.safe_dump(json.loads(parameters), sort_keys=True, allow_unicode=True, width=110)
    except ValueError:
        return parameters
