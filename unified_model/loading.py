"""From a folder on disk to a model that edits. The kinds of folder are told in `unified_model.checkpoint`."""

from __future__ import annotations

from pathlib import Path

import torch

from unified_model.adapters import apply_adapter
from unified_model.card import read_card
from unified_model.checkpoint import Weights, checkpoint_folder, lineage_of
from unified_model.config import UnifiedModelConfig
from unified_model.model import UnifiedEditModel
from unified_model.quantisation import NOT_QUANTISED, Quantisation

__all__ = ["Weights", "load_for_inference"]


def load_for_inference(
    path: str | Path,
    weights: Weights | None = None,
    *,
    base: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    quantisation: Quantisation = NOT_QUANTISED,
) -> UnifiedEditModel:
    """A model ready to edit, in evaluation mode, on the CPU save for quantised parts. Adapters are folded into the DiT;
    to a quantised one they are added.

    Args:
        path: one of the kinds of folder.
        weights: which of an export's two to take, None the averaged ones where there are any; without meaning for the
            other kinds.
        base: the whole model, where the card's path no longer holds.

    Raises:
        InputError: a folder or a part is missing, or an adapter does not fit.
        SchemaVersionError: written by a newer editmill, or trained with another prompt.
    """
    folder = checkpoint_folder(path, weights)
    origin = lineage_of(folder, base)
    if origin.whole == folder:
        return UnifiedEditModel.from_pretrained(folder, dtype, quantisation).eval()
    # The base's own core is never read: a second copy of a large denoiser may not fit.
    own: dict[str, object] = {
        "conditioner": str(origin.conditioner / "conditioner"),
        "transformer": str(origin.transformer / "transformer"),
        "takes_reference_latents": read_card(folder).takes_reference_latents,
    }
    config = UnifiedModelConfig.of_folder(origin.whole).model_copy(update=own)
    model = UnifiedEditModel.from_components(config, dtype, quantisation)
    for adapter in origin.adapters:
        apply_adapter(model.core.denoiser.transformer, adapter / "adapter")
    model.source, model.core_source = str(origin.whole), str(folder)
    return model.eval()
