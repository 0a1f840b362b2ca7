"""What decides the numbers in a cache, and why it does not serve a run that is made of something else."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch

from schemas.atomic import fingerprint
from schemas.config import Config
from trainer.checkpoints.model_files import differs, mark_of, model_files
from trainer.data.buckets import BucketChoice

GEOMETRY_VERSION = 1
"""Raised when decoding, cropping or resizing gives other pixels."""
FORMAT_VERSION = 1
"""Of the layout."""
LATENT_PARTS = ("vae",)
FEATURE_PARTS = ("vlm", "processor", "siglip", "siglip_processor")
"""Parts of a model that decide what is stored."""
FloatName = Literal["float32", "bfloat16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class CacheIdentity(Config):
    """What decides the numbers in a cache."""

    format_version: int = FORMAT_VERSION
    geometry_version: int = GEOMETRY_VERSION
    resolution: int
    """As `data.resolution` of a run."""
    buckets: BucketChoice
    """As `data.buckets` of a run."""
    compute: FloatName
    """Type that the frozen parts compute in, as `engine.dtype` of a run."""
    stored: FloatName
    """Type that the numbers are stored in."""
    features: bool
    """Whether the towers' features are stored beside the latents."""
    dropped: bool
    """Whether they are stored for prompts that lost something, too."""
    reference_latents: bool
    """Whether the references' latents are stored."""
    prompt_version: int
    """Of the prompt that the VLM heard."""
    model: dict[str, dict[str, Any]]
    """Part and path in it -> size, modified and sha256, as in a checkpoint."""

    def mark(self) -> str:
        """16 hexadecimal digits: the name of the cache's folder. When a model's files were touched decides nothing."""
        values = self.as_json()
        values["model"] = {name: found["sha256"] for name, found in self.model.items()}
        return fingerprint(values)


def marks_for(model: str, features: bool) -> dict[str, dict[str, Any]]:
    """The marks of the files that decide what is stored.

    Raises:
        InputError: the model's folder or its base is missing.
    """
    files = _files(model, features)
    with ThreadPoolExecutor(4, thread_name_prefix="model-files") as readers:
        return dict(zip(files, readers.map(mark_of, files.values()), strict=True))


def why_not(identity: CacheIdentity, model: str, wanted: Mapping[str, Any], features: bool) -> str | None:
    """Why what a cache holds is not what a run computes; None where it is.

    Args:
        model: of the run.
        wanted: fields of `CacheIdentity` with the values that the run has.
        features: look at what decides the features; else at what decides the latents.

    Raises:
        InputError: the model's folder or its base is missing.
    """
    for name, value in wanted.items():
        found = getattr(identity, name)
        if found != value:
            return f"it was made with {name} = {found}, and the run has {value}"
    parts = FEATURE_PARTS if features else LATENT_PARTS
    files = {name: path for name, path in _files(model, features).items() if name.partition("/")[0] in parts}
    known = {name: mark for name, mark in identity.model.items() if name.partition("/")[0] in parts}
    for name in sorted(files.keys() ^ known.keys()):
        return f"it was made with another model: one of the two has no {name}"
    for name, path in files.items():
        if differs(path, known[name]):
            return f"it was made with another model: {name} has another content"
    return None


def _files(model: str, features: bool) -> dict[str, Path]:
    parts = (*LATENT_PARTS, *FEATURE_PARTS) if features else LATENT_PARTS
    return {name: path for name, path in model_files(model).items() if name.partition("/")[0] in parts}
