"""A sample as the members of a WebDataset tar, and back.

Edit samples: KEY.reference.EXT, KEY.reference1.EXT, ..., KEY.target.EXT, KEY.mask.png, KEY.json. Image-caption samples
follow img2dataset: KEY.EXT, KEY.txt, KEY.json. EXT is the original format's, the bytes are the original's. The .json
member holds every other column of the record, under the column's name, and the names under which the images came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.atomic import canonical_json
from schemas.errors import SchemaVersionError
from schemas.images import image_extension
from schemas.layout import reference_member
from schemas.record import RecordSchema
from schemas.records import EDIT_SAMPLE, IMAGE_RECORD

IMAGE_COLUMNS: dict[str, tuple[str, ...]] = {
    EDIT_SAMPLE.name: ("references", "target", "mask"),
    IMAGE_RECORD.name: ("image",),
}
"""Columns that become members of their own, by record."""

Members = list[tuple[str, bytes]]
"""(name after the key and its dot, bytes), in the order in which they stand in the tar."""


def edit_members(row: Mapping[str, Any]) -> Members:
    """The members of one EditSample row, as Python values.

    Raises:
        RowRejected: an image's format is not known.
    """
    members = [
        (f"{reference_member(position)}.{image_extension(image['bytes'])}", image["bytes"])
        for position, image in enumerate(row["references"])
    ]
    members.append((f"target.{image_extension(row['target']['bytes'])}", row["target"]["bytes"]))
    members.append(("mask.png", row["mask"]["bytes"]))
    paths = {
        "references": [image["path"] for image in row["references"]],
        "target": row["target"]["path"],
        "mask": row["mask"]["path"],
    }
    members.append(("json", _json_member(row, EDIT_SAMPLE, paths)))
    return members


def image_members(row: Mapping[str, Any], caption_order: Sequence[str]) -> Members:
    """The members of one ImageRecord row, as Python values; no .txt where the row has none of the captions.

    Raises:
        RowRejected: the image's format is not known.
    """
    image = row["image"]
    members = [(image_extension(image["bytes"]), image["bytes"])]
    text = chosen_caption(row, caption_order)
    if text is not None:
        members.append(("txt", text.encode()))
    members.append(("json", _json_member(row, IMAGE_RECORD, {"image": image["path"]})))
    return members


def chosen_caption(row: Mapping[str, Any], caption_order: Sequence[str]) -> str | None:
    """The first non-blank caption of an ImageRecord row in the order of kinds given ("original": column `caption`)."""
    by_kind: dict[str, str | None] = {"original": row.get("caption")}
    for caption in row.get("captions") or ():
        by_kind.setdefault(caption["kind"], caption["text"])
    for kind in caption_order:
        text = by_kind.get(kind)
        if text and text.strip():
            return text
    return None


def row_from_members(key: str, members: Mapping[str, bytes]) -> dict[str, Any]:
    """The record row that `edit_members` or `image_members` was given: every column of the record, as Python values.

    Raises:
        SchemaVersionError: written by a newer editmill.
        KeyError, ValueError, TypeError, AttributeError, StopIteration: a member is missing, or the .json member is not
            one of ours.
    """
    values = json.loads(members["json"])
    paths = values["paths"]
    record = {EDIT_SAMPLE.name: EDIT_SAMPLE, IMAGE_RECORD.name: IMAGE_RECORD}[values["schema"]]
    if values["schema_version"] > record.version:
        raise SchemaVersionError(
            f"{record.name} schema version",
            values["schema_version"],
            f"this editmill reads versions up to {record.version}",
            "Upgrade editmill to read these shards.",
        )
    row = {field.name: values.get(field.name) for field in record.fields}
    row["key"] = key
    by_stem = {suffix.rpartition(".")[0]: data for suffix, data in members.items()}
    if record is EDIT_SAMPLE:
        row["references"] = [
            {"bytes": by_stem[reference_member(position)], "path": path}
            for position, path in enumerate(paths["references"])
        ]
        row["target"] = {"bytes": by_stem["target"], "path": paths["target"]}
        row["mask"] = {"bytes": by_stem["mask"], "path": paths["mask"]}
        if row["judge_scores"] is not None:
            row["judge_scores"] = list(row["judge_scores"].items())
    else:
        image = next(data for suffix, data in members.items() if suffix not in ("txt", "json"))
        row["image"] = {"bytes": image, "path": paths["image"]}
    return row


def _json_member(row: Mapping[str, Any], record: RecordSchema, paths: Mapping[str, Any]) -> bytes:
    values: dict[str, Any] = {"schema": record.name, "schema_version": record.version, "paths": paths}
    for field in record.fields:
        if field.name not in IMAGE_COLUMNS[record.name]:
            values[field.name] = row.get(field.name)
    if values.get("judge_scores") is not None:
        values["judge_scores"] = dict(values["judge_scores"])
    return canonical_json(values).encode()
