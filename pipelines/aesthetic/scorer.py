"""The model at work: images in, scores out. Torch is imported in `load`, not before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.aesthetic.config import AestheticConfig
from pipelines.aesthetic.head import Head, head_file, is_on_hub, read_head
from schemas.errors import ConfigError, InputError

_MODEL_TYPES = ("clip", "clip_vision_model")


class Scorer:
    """A CLIP vision tower with its projection, and a head on top."""

    def __init__(self, config: AestheticConfig) -> None:
        self._config = config
        self._model: Any = None
        self._processor: Any = None
        self._head: Head | None = None
        self._device = ""
        self.batch_size = config.batch_size
        """Images in a call, after what the GPU's memory has taught."""

    def preflight(self) -> None:
        """Look for the packages, a CLIP model in the folder, and a head that fits it; nothing is fetched."""
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                mend = "In the clone, run pip install '.[vlm]'."
                raise InputError("aesthetic", self.__class__.__name__, f"needs the package {package}", mend)
        folder = Path(self._config.model)
        width = _projection_width(folder) if folder.is_dir() else None
        if not is_on_hub(self._config.head):
            head = read_head(head_file(self._config.head))
            if width is not None:
                _check_width(head, width, self._config)

    def load(self) -> None:
        """Load the model and the head.

        Raises:
            InputError, ConfigError: they cannot be loaded, or do not fit.
        """
        import torch
        from transformers import AutoImageProcessor

        wanted = self._config.device
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
        self._head = read_head(head_file(self._config.head)).to(self._device)
        try:
            model = _load_tower(self._config.model, getattr(torch, self._config.dtype))
            # The one written on Pillow resizes the same on every machine.
            self._processor = AutoImageProcessor.from_pretrained(self._config.model, backend="pil")
        except (OSError, ValueError) as error:
            raise InputError(
                "aesthetic.model", self._config.model, f"cannot be loaded ({error})", "Name a whole CLIP model."
            ) from error
        _check_width(self._head, int(model.config.projection_dim), self._config)
        self._model = model.to(self._device).eval()

    @property
    def is_loaded(self) -> bool:
        """Whether `load` was called."""
        return self._model is not None

    def scores(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[float]:
        """A score for each (H, W, 3) uint8 image.

        Raises:
            InputError: the GPU's memory does not hold the model and one image.
        """
        import torch

        found: list[float] = []
        while len(found) < len(images):
            part = images[len(found) : len(found) + self.batch_size]
            try:
                found += self._batch(part)
            except torch.OutOfMemoryError as error:
                if self.batch_size == 1:
                    raise InputError(
                        "aesthetic.device", self._device, "has no memory for one image", "Free it, or use cpu."
                    ) from error
                self.batch_size = max(1, self.batch_size // 2)
                torch.cuda.empty_cache()
        return found

    def _batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[float]:
        import torch

        if self._head is None:
            self.load()
        batch = self._processor([Image.fromarray(image) for image in images], return_tensors="pt")
        with torch.inference_mode():
            pixels = batch["pixel_values"].to(self._device, dtype=self._model.dtype)
            embeddings = self._model(pixel_values=pixels).image_embeds
            head: Any = self._head
            values: list[float] = head.scores(embeddings).tolist()
        return values


def _load_tower(name: str, dtype: Any) -> Any:
    """The vision tower with its projection, of a whole CLIP model or by itself.

    Raises:
        InputError: the weights are not all there.
        OSError, ValueError: as transformers does.
    """
    from transformers import AutoConfig, CLIPVisionModelWithProjection
    from transformers.utils import logging

    config = AutoConfig.from_pretrained(name)
    if config.model_type == "clip":
        # The vision part of a whole model's config need not say it, and would then take another default.
        config.vision_config.projection_dim = config.projection_dim
        config = config.vision_config
    verbosity = logging.get_verbosity()
    # Loading half of a model is meant, and no cause for a table of the other half.
    logging.set_verbosity_error()
    try:
        model, found = CLIPVisionModelWithProjection.from_pretrained(
            name, config=config, dtype=dtype, output_loading_info=True
        )
    finally:
        logging.set_verbosity(verbosity)
    random = sorted(str(key) for key in (*found["missing_keys"], *found["mismatched_keys"]))
    if random:
        raise InputError(
            "aesthetic.model", name, f"lacks weights of the vision tower ({random[0]})", "Name a whole CLIP model."
        )
    return model


def _projection_width(folder: Path) -> int:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, width = values.get("model_type"), values.get("projection_dim", 512)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            "aesthetic.model", str(folder), f"has no readable config.json ({error})", "Name a model's folder."
        ) from error
    if kind not in _MODEL_TYPES:
        raise ConfigError("aesthetic.model", f"{folder} ({kind})", "must be a CLIP model", "Name the head's own CLIP.")
    return int(width)


def _check_width(head: Head, width: int, config: AestheticConfig) -> None:
    if head.width != width:
        raise ConfigError(
            "aesthetic.head",
            config.head,
            f"takes embeddings of length {head.width}, the model {config.model} gives {width}",
            "Use the CLIP model that the head was trained on.",
        )
