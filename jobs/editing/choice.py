"""Which model is taken, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from schemas.errors import ConfigError
from unified_model.card import CARD_NAME
from unified_model.checkpoint import Weights, checkpoint_folder, lineage_of
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.placement import Offload
from unified_model.quantisation import Bits, Quantisation
from unified_model.quiet import quiet_libraries


@dataclass(frozen=True)
class ModelChoice:
    """As the options of `editmill edit` have it.

    Args:
        checkpoint, weights, base: as in `unified_model.loading.load_for_inference`.
        device: "auto" takes a GPU where there is one.
        offload, quantise_vlm, quantise_dit: as in `UnifiedEditPipeline.from_pretrained`.
    """

    checkpoint: Path
    weights: Weights | None = None
    base: Path | None = None
    device: str = "auto"
    offload: Offload = "none"
    quantise_vlm: Bits = "none"
    quantise_dit: Bits = "none"

    @property
    def where(self) -> str:
        """The device.

        Raises:
            ConfigError: there is none of that name.
        """
        return find_device(self.device)

    def settings(self) -> dict[str, Any]:
        """What of it decides the images, once everything is known to be there that can be looked at cheaply.

        Raises:
            InputError, ConfigError: something is missing, or does not go together.
        """
        folder = checkpoint_folder(self.checkpoint, self.weights)
        lineage_of(folder, self.base)
        Quantisation(self.quantise_vlm, self.quantise_dit, self.where).check()
        return {
            "checkpoint": str(folder),
            # An export that a longer run wrote anew is another model under the same name.
            "checkpoint_written": (folder / CARD_NAME).stat().st_mtime_ns,
            "quantise_vlm": self.quantise_vlm,
            "quantise_dit": self.quantise_dit,
        }

    def load(self) -> UnifiedEditPipeline:
        """The pipeline, in bf16 on a GPU and in float32 on a CPU."""
        quiet_libraries()
        with Console(stderr=True).status("loading the model"):
            return UnifiedEditPipeline.from_pretrained(
                self.checkpoint,
                weights=self.weights,
                base=self.base,
                dtype=torch.float32 if self.where == "cpu" else torch.bfloat16,
                device=self.where,
                offload=self.offload,
                quantise_vlm=self.quantise_vlm,
                quantise_transformer=self.quantise_dit,
            )


def find_device(wanted: str) -> str:
    """The device that `wanted` means; "auto" is "cuda" where there is a GPU, else "cpu".

    Raises:
        ConfigError: it is not there.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError("--device", wanted, "is no device", "Say cpu, cuda or cuda:N.") from error
    usable = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    if not usable:
        raise ConfigError("--device", wanted, "is not there on this machine", "Leave --device out, or say cpu.")
    return wanted
