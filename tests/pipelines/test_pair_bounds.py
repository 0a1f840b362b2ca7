"""Bounds on pairs: inclusive, each with a reason of its own, and sides can be checked before there are masks."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pytest
from PIL import ExifTags, Image

from pipelines.pair_bounds import PairBounds, PairBoundsConfig
from schemas.config import parse_config
from schemas.errors import ConfigError, SchemaError
from schemas.records import IMAGE_TYPE


def picture(width: int, height: int, **save: Any) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (9, 99, 199)).save(stream, **{"format": "PNG", **save})
    return {"bytes": stream.getvalue(), "path": "picture"}


def pairs(*rows: tuple[list[Any] | None, Any, float | None]) -> pa.Table:
    references, targets, fractions = zip(*rows, strict=True)
    return pa.table(
        {
            "key": [f"{number:032x}" for number in range(len(rows))],
            "references": pa.array(references, pa.list_(IMAGE_TYPE)),
            "target": pa.array(targets, IMAGE_TYPE),
            "edited_fraction": pa.array(fractions, pa.float64()),
        }
    )


def bounds(**values: Any) -> PairBounds:
    return PairBounds(parse_config(PairBoundsConfig, values, "pair_bounds"))


def test_the_edited_area_has_a_floor_and_a_ceiling_and_both_are_inclusive() -> None:
    image = picture(8, 8)
    fractions = [0.0, 0.0099, 0.01, 0.3, 0.5, 0.5001, 1.0, float("nan"), None]
    table = pairs(*(([image], image, fraction) for fraction in fractions))
    result = bounds(min_edited_fraction=0.01, max_edited_fraction=0.5)(table)
    assert result.kept["edited_fraction"].to_pylist() == [0.01, 0.3, 0.5]
    small, large = "edited_area_too_small", "edited_area_too_large"
    assert result.rejected["reason"].to_pylist() == [small, small, large, large, small, "edited_fraction_missing"]
    assert json.loads(result.rejected["evidence"][0].as_py()) == {"edited_fraction": 0.0}
    assert "0.9900% of the target is edited, under the minimum 1.0000%" in result.rejected["sentence"].to_pylist()


def test_the_short_side_of_every_image_counts_and_is_that_of_the_upright_image() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    good, turned = picture(64, 48), picture(48, 64, format="JPEG", exif=exif)
    table = pairs(
        ([good], turned, None),
        ([good], picture(200, 47), None),
        ([good, picture(47, 300)], good, None),
        ([], good, None),
        ([good], {"bytes": b"no image", "path": "x"}, None),
        ([None], good, None),
    )
    result = bounds(min_side=48)(table.drop_columns(["edited_fraction"]))
    assert result.kept["key"].to_pylist() == [f"{0:032x}"]
    assert result.rejected["reason"].to_pylist() == [
        "target_side_too_short",
        "reference_side_too_short",
        "reference_missing",
        "image_format_unknown",
        "image_empty",
    ]
    assert "reference 1 has 47 x 300 pixels" in result.rejected["sentence"][1].as_py()


def test_bounds_that_no_pair_meets_are_refused_and_needed_columns_are_named() -> None:
    with pytest.raises(ConfigError, match="no pair could pass"):
        bounds(min_edited_fraction=0.5, max_edited_fraction=0.1)
    with pytest.raises(ConfigError, match="at least one bound"):
        bounds()
    with pytest.raises(SchemaError, match="needs column 'edited_fraction'"):
        bounds(max_edited_fraction=0.1)(pairs(([], None, 0.1)).drop_columns(["edited_fraction"]))
