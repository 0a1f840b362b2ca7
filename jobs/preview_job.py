"""Previewing a packed folder: choose samples, read only those, write the sheet and the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.preview.card import Card, EditLook, edit_card, percent, weight_top
from pipelines.preview.contact_sheet import contact_sheet
from pipelines.preview.look import caption_card, edit_look
from pipelines.preview.page import preview_page
from pipelines.preview.picture import Picture, encode_png, fit
from pipelines.preview.sampling import choose
from pipelines.preview.strip import edit_strip
from pipelines.shards.read import open_packed
from schemas.atomic import write_bytes
from schemas.errors import InputError, RowRejected
from schemas.records import EDIT_SAMPLE
from schemas.weighting import check_weighting

SHEET_NAME = "contact-sheet.png"
PAGE_NAME = "preview.html"


@dataclass(frozen=True)
class PreviewOptions:
    """What to look at, and how.

    Args:
        count: samples to show, >= 1.
        seed: of the choice.
        weighting, max_weight: as `schemas.weighting.region_weight`.
    """

    count: int = 12
    seed: int = 0
    weighting: str = "logarithmic"
    max_weight: float | None = None


@dataclass(frozen=True)
class Preview:
    """What was written.

    Args:
        sheet, page: the files.
        cards: the samples shown.
        looks: the same samples before layout; empty for image-caption shards.
        undecodable: (key, sentence) of chosen samples that could not be shown.
    """

    sheet: Path
    page: Path
    cards: tuple[Card, ...]
    looks: tuple[EditLook, ...]
    undecodable: tuple[tuple[str, str], ...]

    def strips(self, width: int) -> Iterator[tuple[str, Picture]]:
        """(one line of text, pictures side by side at most `width` pixels wide) of each sample, for a terminal."""
        if not self.looks:
            for card in self.cards:
                picture = card.panels[0].picture
                yield card.text, fit(picture, 10**6, min(width, max(16, width // 3)), enlarge=False)
            return
        top = weight_top(self.looks)
        for look, card in zip(self.looks, self.cards, strict=True):
            weight = "" if look.weights is None else f"  w {look.weights.edited_weight:.2f}"
            line = f"{card.short_key}  {look.status}  {percent(look.fraction)}{weight}  {look.instruction}"
            yield line, edit_strip(look, top, width)


def write_preview(shards: Path, output: Path, options: PreviewOptions) -> Preview:
    """Write `contact-sheet.png` and `preview.html` of a packed folder into `output`.

    Raises:
        ConfigError: the weighting or its cap is wrong.
        InputError: `shards` is no packed folder or holds no sample, or none could be decoded.
        OutputError: `output` cannot be written.
        SchemaVersionError, ShardError: as `pipelines.shards.read.open_packed`.
    """
    formula = check_weighting(options.weighting, options.max_weight).formula
    folder = open_packed(shards)
    if len(folder) == 0:
        raise InputError("shards", str(shards), "holds no sample", "Look at its outcomes: every row was rejected.")
    is_edit = folder.record is EDIT_SAMPLE
    looks: list[EditLook] = []
    cards: list[Card] = []
    undecodable: list[tuple[str, str]] = []
    chosen = choose(folder.index["mask_status"].to_pylist(), options.count, options.seed)
    for position in chosen:
        row = folder.sample_at(position)
        try:
            if is_edit:
                looks.append(edit_look(row, options.weighting, options.max_weight))
            else:
                cards.append(caption_card(row, folder.manifest.config["caption_order"]))
        except RowRejected as rejection:
            undecodable.append((row["key"], rejection.sentence))
    top = weight_top(looks)
    cards += [edit_card(look, top) for look in looks]
    if not cards:
        raise InputError(
            "shards", str(shards), f"none of {len(chosen)} samples can be decoded", "Run editmill validate."
        )
    title = shards.resolve().name
    subtitle = f"{len(cards)} of {len(folder):,} samples, seed {options.seed}"
    if is_edit:
        cap = "" if options.max_weight is None else f", at most {options.max_weight:g}"
        subtitle += f" · {options.weighting} weighting, w(x) = {formula}{cap}"
    scale = top if is_edit else None
    sheet, page = output / SHEET_NAME, output / PAGE_NAME
    write_bytes(sheet, encode_png(contact_sheet(cards, title, subtitle, scale)))
    write_bytes(page, preview_page(cards, title, subtitle, scale).encode())
    return Preview(sheet, page, tuple(cards), tuple(looks), tuple(undecodable))
