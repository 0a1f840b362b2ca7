"""A preview: choose samples, read only those, write the sheets and the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.samples.base import Row, Samples, Unreadable
from pipelines.masks.step import EditMasks, EditMasksConfig
from pipelines.preview.card import Card, EditLook, edit_card, panel_side, percent, weight_top
from pipelines.preview.contact_sheet import contact_sheets
from pipelines.preview.look import REFUSED, caption_card, edit_look, is_masked, pair_look
from pipelines.preview.page import preview_page
from pipelines.preview.picture import encode_png, fit
from pipelines.preview.sampling import choose
from pipelines.preview.strip import StripRow, edit_strip
from schemas.atomic import write_bytes
from schemas.errors import InputError, RowRejected
from schemas.weighting import check_weighting

SHEET_NAME = "contact-sheet.png"
PAGE_NAME = "preview.html"
NARROW = 120
"""Characters: on a terminal of fewer, the steps are laid three in a row, so that each is still seen."""


@dataclass(frozen=True)
class PreviewOptions:
    """What to look at, and how.

    Args:
        count: samples to show, >= 1.
        seed: of the choice.
        weighting, max_weight: as `schemas.weighting.region_weight`.
        with_steps: whether the sheets and the terminal show how each mask came about; the page always does.
        rebuild: whether stored masks are left aside and built anew.
    """

    count: int = 12
    seed: int = 0
    weighting: str = "logarithmic"
    max_weight: float | None = None
    with_steps: bool = True
    rebuild: bool = False


@dataclass(frozen=True)
class Preview:
    """What was written.

    Args:
        sheets, page: the files.
        cards: the samples shown.
        looks: the same samples before layout; empty for image-caption samples.
        undecodable: chosen samples that could not be shown.
        with_steps: as asked for.
    """

    sheets: tuple[Path, ...]
    page: Path
    cards: tuple[Card, ...]
    looks: tuple[EditLook, ...]
    undecodable: tuple[Unreadable, ...]
    with_steps: bool

    def strips(self, width: int, characters: int) -> Iterator[tuple[str, list[StripRow]]]:
        """(one line of text, rows of pictures) of each sample, for a terminal.

        Args:
            width: of a row of pictures at most, in pixels.
            characters: of the same width.
        """
        if not self.looks:
            for card in self.cards:
                picture = fit(card.panels[0].picture, 10**6, min(width, max(16, width // 3)), enlarge=False)
                yield card.text, [StripRow(("image",), width, picture)]
            return
        top = weight_top(self.looks)
        columns = (3 if characters < NARROW else 5) if self.with_steps else 4
        for look, card in zip(self.looks, self.cards, strict=True):
            parts = [card.short_key, look.status]
            parts += [] if look.confidence is None else [f"confidence {look.confidence:.2f}"]
            parts += [] if look.fraction is None else [percent(look.fraction)]
            parts += [] if look.weights is None else [f"w {look.weights.edited_weight:.2f}"]
            parts += [text for name, text in look.facts if name == REFUSED]
            yield "  ".join([*parts, look.instruction]), edit_strip(look, top, width, columns, self.with_steps)


def write_preview(samples: Samples, output: Path, options: PreviewOptions, masking: EditMasks | None = None) -> Preview:
    """Write `contact-sheet.png` (and `contact-sheet-2.png`, ... where one would be too high) and `preview.html`.

    Args:
        samples: what is chosen from.
        output: folder.
        masking: what builds the masks of pairs that have none; by default the step `masks` at its defaults.

    Raises:
        ConfigError: the weighting or its cap is wrong.
        InputError: there is no sample, or none could be shown.
        OutputError: `output` cannot be written.
        SchemaVersionError, ShardError: as the samples' own.
    """
    formula = check_weighting(options.weighting, options.max_weight).formula
    if len(samples) == 0:
        raise InputError("samples", samples.name, "holds no sample", "Look at its outcomes: every row was rejected.")
    step = masking or EditMasks(EditMasksConfig())
    step.setup()
    statuses = samples.statuses()
    chosen = choose(statuses, options.count, options.seed, samples.fractions())
    looks: list[EditLook] = []
    cards: list[Card] = []
    undecodable: list[Unreadable] = []
    built = 0
    for row in samples.rows(chosen):
        try:
            if isinstance(row, Unreadable):
                undecodable.append(row)
            elif samples.kind == "images":
                cards.append(caption_card(row, samples.caption_order, panel_side(len(chosen))))
            else:
                is_stored = is_masked(row) and not options.rebuild
                built += not is_stored
                looks.append(_look(row, None if is_stored else step, options, panel_side(len(chosen))))
        except RowRejected as rejection:
            undecodable.append(Unreadable(_name_of(row), rejection.sentence))
    top = weight_top(looks)
    cards += [edit_card(look, top) for look in looks]
    if not cards:
        first = f"; the first, {undecodable[0].name}: {undecodable[0].sentence}"
        raise InputError(
            "samples", samples.name, f"none of {len(chosen)} can be shown{first}", "Run editmill validate on shards."
        )
    told = [f"{len(cards)} of {len(samples):,} samples, seed {options.seed}"]
    if len(chosen) < len(samples):
        known = any(status is not None for status in statuses)
        told.append("chosen by status and edited-area decile" if known else "chosen uniformly")
    if built:
        told.append(f"masks built here: {step.recipe.name} version {step.recipe.version}")
    if looks:
        cap = "" if options.max_weight is None else f", at most {options.max_weight:g}"
        told.append(f"{options.weighting} weighting, w(x) = {formula}{cap}")
    subtitle, scale = " · ".join(told), top if looks else None
    sheets = []
    for number, sheet in enumerate(contact_sheets(cards, samples.name, subtitle, scale, options.with_steps), 1):
        sheets.append(output / (SHEET_NAME if number == 1 else _further(number)))
        write_bytes(sheets[-1], encode_png(sheet))
    _remove_further(output, len(sheets) + 1)
    page = output / PAGE_NAME
    write_bytes(page, preview_page(cards, samples.name, subtitle, scale).encode())
    return Preview(tuple(sheets), page, tuple(cards), tuple(looks), tuple(undecodable), options.with_steps)


def _look(row: Row, step: EditMasks | None, options: PreviewOptions, side: int) -> EditLook:
    if step is None:
        return edit_look(row, options.weighting, options.max_weight, side)
    return pair_look(row, step, options.weighting, options.max_weight, side)


def _name_of(row: Any) -> str:
    """What a person finds the sample by: its key, and the name of its file where that is known."""
    image = row.get("target") or row.get("image") or {}
    return f"{row['key']} ({image['path']})" if image.get("path") else str(row["key"])


def _further(number: int) -> str:
    return SHEET_NAME.replace(".png", f"-{number}.png")


def _remove_further(output: Path, number: int) -> None:
    """Remove what an earlier, larger preview left, from sheet `number` on."""
    while (stale := output / _further(number)).is_file():
        stale.unlink()
        number += 1
