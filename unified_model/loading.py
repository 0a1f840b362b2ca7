"""From a folder on disk to a model that edits. The kinds of folder are told in `unified_model.checkpoint`."""

from __future__ import annotations

from pathlib import Path

import torch

from unified_model.card import CORE_PARTS
from unified_model.checkpoint import Weights, checkpoint_folder, whole_model_of
from unified_model.config import UnifiedModelConfig
from unified_model.model import UnifiedEditModel

__all__ = ["Weights", "load_for_inference"]


def load_for_inference(
    path: str | Path,
    weights: Weights | None = None,
    *,
    base: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> UnifiedEditModel:
    """A model ready to edit, in evaluation mode, on the CPU.

    Args:
        path: one of the three kinds of folder.
        weights: which of an export's two to take, None the averaged ones where there are any; without meaning for the
            other kinds.
        base: the whole model, where the card's path no longer holds.

    Raises:
        InputError: a folder or a part is missing.
        SchemaVersionError: written by a newer editmill, or trained with another prompt.
    """
    folder = checkpoint_folder(path, weights)
    whole = whole_model_of(folder, base)
    if whole == folder:
        return UnifiedEditModel.from_pretrained(whole, dtype).eval()
    # The base's own core is never read: a second copy of a large denoiser may not fit.
    core = {part: str(folder / part) for part in CORE_PARTS}
    model = UnifiedEditModel.from_components(UnifiedModelConfig.of_folder(whole).model_copy(update=core), dtype)
    model.source = str(whole)
    return model.eval()
