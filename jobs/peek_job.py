"""Peeking at one sample: found by its key, told field by field, drawn as a card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.samples.base import Row, Samples, Unreadable
from jobs.samples.find_key import find_key
from jobs.samples.open import open_samples
from jobs.samples.packed import PackedSamples
from jobs.samples.tables import TableSamples
from jobs.samples.tar_shard import is_ours, tar_keys, tar_members
from pipelines.preview.card import PANEL_SIDE, Card, EditLook, Panel, edit_card, weight_top
from pipelines.preview.fields import field_lines, is_image
from pipelines.preview.look import caption_card, edit_look, is_masked, plain
from pipelines.preview.picture import fit
from pipelines.preview.strip import StripRow, edit_strip, panel_strip
from pipelines.shards.read import row_of
from pipelines.shards.tar_samples import TarSample
from schemas.errors import InputError, RowRejected
from schemas.image_format import sniff_format
from schemas.images import HARD_MAX_PIXELS, decode_image

_NARROW = 120
_TEXTS = ("instruction", "caption", "text", "txt", "cls")
_CAPTION_ORDER = ("long", "short", "original")


@dataclass(frozen=True)
class Peek:
    """One sample.

    Args:
        lines: its fields, for a terminal.
        card: as it is drawn; None where it has no picture.
        look: where it is an edit with a mask.
        undecodable: sentences about pictures that could not be drawn.
    """

    lines: tuple[str, ...]
    card: Card | None
    look: EditLook | None
    undecodable: tuple[str, ...]

    @property
    def scale(self) -> float | None:
        """The weight at the bright end of the colours, where there are weights."""
        return None if self.look is None else weight_top([self.look])

    def strips(self, width: int, characters: int) -> Iterator[tuple[str, list[StripRow]]]:
        """As `jobs.preview_job.Preview.strips`."""
        columns = 3 if characters < _NARROW else 5
        if self.look is not None:
            yield "", edit_strip(self.look, weight_top([self.look]), width, columns, with_steps=True)
        elif self.card is not None:
            yield "", panel_strip(self.card.panels, width, min(columns, max(2, len(self.card.panels))))


def peek_at(path: Path, key: str | None, weighting: str, cap: float | None) -> Peek:
    """The sample called `key`, or the first.

    Args:
        path: a packed folder, a run folder, a .tar or a .parquet file.
        key: whole, or the beginning that no other has; for a Parquet file without keys the number of a row.
        weighting, cap: as `schemas.weighting.region_weight`.

    Raises:
        ConfigError: the weighting is not one.
        InputError: there is no such sample.
        SchemaVersionError, ShardError: what holds it is damaged, or of a newer editmill.
    """
    if path.is_file() and path.name.endswith((".tar", ".tar.gz", ".tgz")):
        found, members = tar_members(path, None if key is None else _tar_key(path, key))
        if is_ours(members):
            return _peek_row(row_of(TarSample(found, 0, 0, members), path.name), weighting, cap)
        return _peek_members(found, members)
    samples = _table(path) if path.is_file() else open_samples(path)
    if not isinstance(samples, PackedSamples | TableSamples):
        raise InputError("SHARD", str(path), "holds pairs, not shards", "Use editmill preview.")
    if len(samples) == 0:
        raise InputError("SHARD", str(path), "holds no sample", "Name another.")
    position = 0 if key is None else find_key(_keys(samples), key, path.name)
    [row] = samples.rows([position])
    if isinstance(row, Unreadable):
        raise InputError(row.name, key, row.sentence, "Name another sample.")
    return _peek_row(row, weighting, cap)


def _table(path: Path) -> TableSamples:
    if path.suffix != ".parquet":
        raise InputError("SHARD", str(path), "is no shard by its name", "Name a .tar, a .parquet or a packed folder.")
    return TableSamples(path.name, [str(path)])


def _tar_key(path: Path, key: str) -> str:
    keys = tar_keys(path)
    if not keys:
        raise InputError("shard", str(path), "holds no sample", "Name another.")
    return keys[find_key(keys, key, path.name)]


def _keys(samples: Samples) -> list[str]:
    keys = samples.keys()
    return [str(number) for number in range(len(samples))] if keys is None else keys


def _peek_row(row: Row, weighting: str, cap: float | None) -> Peek:
    lines = tuple(field_lines(row))
    try:
        if is_masked(row):
            look = edit_look(row, weighting, cap)
            return Peek(lines, edit_card(look, weight_top([look])), look, ())
        if is_image(row.get("image")) and "captions" in row:
            return Peek(lines, caption_card(row, _CAPTION_ORDER), None, ())
    except RowRejected as rejection:
        return Peek(lines, None, None, (rejection.sentence,))
    return _peek_pictures(lines, str(row.get("key", "")), _text_of(row), dict(_pictures(row)))


def _peek_members(key: str, members: Mapping[str, bytes]) -> Peek:
    """A sample of a tar that editmill did not pack."""
    told: dict[str, Any] = {"key": key}
    pictures: dict[str, bytes] = {}
    for suffix, data in members.items():
        if sniff_format(data) is not None:
            pictures[suffix] = data
        told[suffix] = data if sniff_format(data) is not None else _decoded_text(data)
    return _peek_pictures(tuple(field_lines(told)), key, _text_of(told), pictures)


def _peek_pictures(lines: tuple[str, ...], key: str, text: str, pictures: Mapping[str, bytes]) -> Peek:
    panels, undecodable = [], []
    for name, data in pictures.items():
        try:
            decoded = decode_image(data, max_pixels=HARD_MAX_PIXELS)
        except RowRejected as rejection:
            undecodable.append(f"{name}: {rejection.sentence}")
            continue
        panels.append(Panel(plain(name), fit(decoded, PANEL_SIDE, PANEL_SIDE, enlarge=False)))
    card = Card(key, text, None, None, (), tuple(panels)) if panels else None
    return Peek(lines, card, None, tuple(undecodable))


def _pictures(row: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        for number, one in enumerate(values):
            data = one["bytes"] if is_image(one) else one
            if isinstance(data, bytes) and sniff_format(data) is not None:
                yield (f"{name}[{number}]" if len(values) > 1 else name), data


def _decoded_text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _text_of(row: Mapping[str, Any]) -> str:
    texts = (row.get(name) for name in _TEXTS)
    return next((plain(text) for text in texts if isinstance(text, str) and text.strip()), "")
