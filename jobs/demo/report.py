"""The demo's report: what happened to every row, how good the masks are, how the loss went, and the edit."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from jobs.demo.pairs import EDITS
from jobs.demo.plan import RECIPE, RECIPES
from jobs.demo.scores import MaskScore
from jobs.report.counts import StageCounts
from jobs.report.page import render_report
from jobs.report.sections import Curve, Figures, Notice, Section, Table, Text, counts_section
from pipelines.shards.read import open_packed

SMALL_MODELS = (
    "Every model here is small and began with random weights, made on this machine from the real classes (Qwen2.5-VL, "
    "SigLIP2, FLUX, AutoencoderKL). The captions are therefore word salad and the edited image shows the path, not "
    "quality. The autoencoder was fitted for some seconds on the demo's photographs, the held-out one left out."
)
SMOOTHING = 15
"""Steps over which the loss curve is averaged."""


@dataclass(frozen=True)
class HeldOutEdit:
    """The held-out photograph, what was asked, and what came out.

    Args:
        instruction: as given to the pipeline.
        reference, wanted: (H, W, 3) uint8; `wanted` is what the real operation makes of the reference.
        outputs: name of the weights -> (h, w, 3) uint8.
    """

    instruction: str
    reference: npt.NDArray[np.uint8]
    wanted: npt.NDArray[np.uint8]
    outputs: Mapping[str, npt.NDArray[np.uint8]]


def write_report(
    path: Path,
    image_counts: Sequence[StageCounts],
    edit_counts: Sequence[StageCounts],
    image_shards: Path,
    sheet: Path,
    scores: Sequence[MaskScore],
    log: Sequence[Mapping[str, Any]],
    edit: HeldOutEdit,
) -> None:
    """Write the page, one file with everything inside."""
    sections: list[Section] = [
        Notice(SMALL_MODELS, "Small models, random weights"),
        counts_section(image_counts, "Images: filter, read, recaption, pack"),
        _captions(image_shards),
        counts_section(edit_counts, "Edit pairs: read, mask, pack"),
        Figures([(sheet.read_bytes(), "Reference, target, mask over target, weight map")], "Masks"),
        _mask_scores(scores),
        _losses(log),
        _edit(edit),
        Text(
            "Pictures were taken from photographs inside scikit-image and scikit-learn; see NOTICE for their authors "
            "and licences. The aesthetic column of the metadata is a stand-in, computed from colourfulness (Hasler and "
            "Suesstrunk 2003), since no predictor's weights come with editmill.",
            "About the data",
        ),
    ]
    intro = "From a metadata table over real photographs to a trained edit, every step of it run on this machine."
    path.write_text(render_report("editmill demo", intro, sections), encoding="utf-8")


def _captions(shards: Path) -> Table:
    rows = []
    for sample in open_packed(shards).samples():
        caption = sample["captions"][-1]
        rows.append((sample["caption"], caption["text"], f"{caption['prompt']} v{caption['prompt_version']}"))
    return Table(
        ("caption in the metadata", "caption by the (random) VLM", "prompt"), rows, title="Captions in the shards"
    )


def _mask_scores(scores: Sequence[MaskScore]) -> Table:
    rows: list[list[str | int | float | None]] = []
    for kind in (*EDITS, "all"):
        row: list[str | int | float | None] = [kind]
        for recipe in RECIPES:
            chosen = [one for one in scores if one.recipe == recipe and kind in (one.kind, "all")]
            row += [round(float(np.mean([one.iou for one in chosen])), 3)]
            row += [round(float(np.mean([one.weight_error for one in chosen])), 3)]
        rows.append([*row, sum(one.kind == kind or kind == "all" for one in scores) // len(RECIPES)])
    columns = ["edit", *(f"{recipe}: {figure}" for recipe in RECIPES for figure in ("IoU", "weight error")), "pairs"]
    caption = (
        "Mean over pairs, on the 8x max-pooled grid, against the regions that the operations changed. The weight error "
        f"is relative, of w = log2(x) + 1. Both images were saved as JPEG. The shards hold the masks of '{RECIPE}'."
    )
    return Table(columns, rows, caption, "Masks against the known regions")


def _losses(log: Sequence[Mapping[str, Any]]) -> Curve:
    names = {"loss": "weighted (what is trained)", "loss_inside": "inside the edit", "loss_outside": "outside"}
    series = {}
    for field, label in names.items():
        values = np.asarray([line[field] for line in log])
        window = min(SMOOTHING, len(values))
        smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
        series[label] = [(float(window + step), float(value)) for step, value in enumerate(smooth)]
    caption = f"Mean of {SMOOTHING} steps. Flow matching through DeepSpeed; edited latents weigh log2(x) + 1, others 1."
    return Curve(series, "step", "loss", caption=caption, title="Training")


def _edit(edit: HeldOutEdit) -> Figures:
    figures = [(_png(edit.reference), "held-out reference"), (_png(edit.wanted), "what the real operation gives")]
    figures += [(_png(pixels), f"the model's edit, {name} weights") for name, pixels in edit.outputs.items()]
    return Figures(figures, f"An edit of the held-out photograph: “{edit.instruction}”")


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    # Shown at one size; the model's small output is enlarged without blending, as it is.
    nearest = Image.Resampling.NEAREST if image.width < 256 else Image.Resampling.LANCZOS
    image.resize((256, round(256 * image.height / image.width)), nearest).save(buffer, format="PNG")
    return buffer.getvalue()
