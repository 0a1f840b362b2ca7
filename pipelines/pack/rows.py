"""One row at the packer's door: is it a sample, and which members does it make?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import pyarrow as pa
from PIL import Image

from pipelines.pack.config import PackConfig
from pipelines.shards.members import Members, chosen_caption, edit_members, image_members
from schemas.errors import RowRejected, SchemaError
from schemas.images import HARD_MAX_PIXELS, image_size
from schemas.keys import is_key
from schemas.record import RecordSchema, check_version

Loader = Callable[[], pa.Table]
"""Gives the table of one partition; picklable, and gives the same table each time."""


def members_of(row: Mapping[str, Any], config: PackConfig) -> Members:
    """The tar members of a row that `check_row` let pass.

    Raises:
        RowRejected: an image's format is not known.
    """
    return edit_members(row) if config.record == "edits" else image_members(row, config.caption_order)


def check_row(row: Mapping[str, Any], config: PackConfig) -> None:
    """Look at everything about a row that needs no decoding of images.

    Raises:
        RowRejected: `key_invalid`, `COLUMN_missing`, `image_missing`, `target_size`, `mask_status_...`,
            `mask_unreadable`, `mask_size`, `edited_fraction_range`, `caption_missing`; those of `image_size`.
    """
    if not is_key(row["key"]):
        raise RowRejected("key_invalid", f"the key {row['key']!r} is not 32 lower-case hexadecimal digits")
    for name in config.record_schema.required:
        if row[name] is None:
            raise RowRejected(f"{name}_missing", f"the column '{name}' is null")
    if config.record == "images":
        _header_of("image", row["image"])
        if config.require_caption and chosen_caption(row, config.caption_order) is None:
            raise RowRejected("caption_missing", f"the row has no caption of the kinds {list(config.caption_order)}")
        return
    if not row["references"]:
        raise RowRejected("references_missing", "the row has no reference image")
    for position, image in enumerate(row["references"]):
        _header_of(f"reference {position}", image)
    found = _header_of("target", row["target"])
    if found != (row["width"], row["height"]):
        raise RowRejected(
            "target_size",
            f"the upright target has {found[0]} x {found[1]} pixels, the row says {row['width']} x {row['height']}",
        )
    if row["mask_status"] not in config.mask_statuses:
        raise RowRejected(
            f"mask_status_{row['mask_status']}",
            f"the mask status is '{row['mask_status']}'; packed are {[str(status) for status in config.mask_statuses]}",
        )
    if not 0.0 <= row["edited_fraction"] <= 1.0:
        raise RowRejected("edited_fraction_range", f"the edited fraction {row['edited_fraction']} is not in 0..1")
    _check_mask(row["mask"]["bytes"], row["width"], row["height"])


def size_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height, in pixels, of the upright image that a row trains: the target, or the one image."""
    if "target" in row:
        return row["width"], row["height"]
    return image_size(row["image"]["bytes"], max_pixels=HARD_MAX_PIXELS)


def typed_table(table: pa.Table, record: RecordSchema) -> pa.Table:
    """The record's own columns of `table`, in order and cast to their types; nulls are left for `check_row` to meet.

    Raises:
        SchemaVersionError, SchemaError: a column is missing or has another type, or a key is null.
    """
    check_version(table.schema, record)
    missing = [name for name in record.required if name not in table.column_names]
    if missing:
        raise SchemaError(
            f"pack input lacks {record.name} columns",
            missing,
            "these columns are missing",
            "Run the steps that add them before packing (masks for edit pairs).",
        )
    if table["key"].null_count:
        raise SchemaError(f"{record.name}.key", f"{table['key'].null_count} nulls", "must not be null", "Give keys.")
    relaxed = RecordSchema(
        record.name, record.version, pa.schema([field.with_nullable(True) for field in record.fields])
    )
    return relaxed.conform(table).select(record.fields.names)


def row_of(table: pa.Table, number: int) -> Mapping[str, Any]:
    """One row as Python values; only this row's images are copied."""
    row: Mapping[str, Any] = table.slice(number, 1).to_pylist()[0]
    return row


def _header_of(what: str, image: Mapping[str, Any] | None) -> tuple[int, int]:
    if image is None or not image["bytes"]:
        raise RowRejected("image_missing", f"the {what} has no bytes")
    try:
        return image_size(image["bytes"], max_pixels=HARD_MAX_PIXELS)
    except RowRejected as rejection:
        raise RowRejected(rejection.reason, f"the {what}: {rejection.sentence}") from rejection


def _check_mask(data: bytes | None, width: int, height: int) -> None:
    if not data:
        raise RowRejected("mask_missing", "the mask has no bytes")
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as mask:
            found, mode = mask.size, mask.mode
            mask.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RowRejected("mask_unreadable", f"the mask is no whole PNG ({error})") from error
    if found != (width, height):
        raise RowRejected("mask_size", f"the mask has {found[0]} x {found[1]} pixels, the target {width} x {height}")
    if mode not in ("1", "L"):
        raise RowRejected("mask_unreadable", f"the mask is a PNG of mode {mode}; it must have one bit a pixel")
