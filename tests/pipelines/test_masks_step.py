"""The step `masks` over Arrow tables: every pair becomes a sample, or is rejected with a reason."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.masks.step import EditMasks, EditMasksConfig
from schemas.config import parse_config
from schemas.errors import ConfigError
from schemas.images import decode_image, decode_mask, image_size
from schemas.records import EDIT_PAIR, EDIT_SAMPLE, IMAGE_TYPE

REAL_PAIRS = Path(__file__).parents[2] / ".." / "shared" / "data" / "real_pairs"


def png(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


def photograph(height=64, width=96):
    return np.random.default_rng(3).integers(80, 120, (height, width, 3), np.uint8)


def edited(pixels, share=0.5):
    changed = pixels.copy()
    changed[8 : 8 + int(pixels.shape[0] * share), 8:40] += 90
    return changed


def pairs(*rows):
    """Rows are (reference bytes, ..., target bytes)."""
    image = lambda data: {"bytes": data, "path": "image"}  # noqa: E731
    table = pa.table(
        {
            "key": [f"{number:032x}" for number in range(len(rows))],
            "references": pa.array([[image(one) for one in row[:-1]] for row in rows], pa.list_(IMAGE_TYPE)),
            "target": pa.array([image(row[-1]) for row in rows], IMAGE_TYPE),
            "instruction": ["Change it."] * len(rows),
        }
    )
    return EDIT_PAIR.conform(table)


def run(table, **config):
    step = EditMasks(parse_config(EditMasksConfig, config, "masks"))
    step.setup()
    return step(table)


def reasons(result):
    return result.rejected["reason"].to_pylist()


def test_a_pair_becomes_an_edit_sample():
    before = photograph()
    result = run(pairs((png(before), png(edited(before)))), recipe="seed", parameters={"threshold": 40})
    EDIT_SAMPLE.check(EDIT_SAMPLE.conform(result.kept))
    row = result.kept.to_pylist()[0]
    mask = decode_mask(row["mask"]["bytes"])
    assert row["mask"]["path"] == "mask.png"
    assert (row["width"], row["height"]) == (96, 64)
    assert mask.shape == (64, 96)
    assert mask[20, 20]
    assert not mask[60, 90]
    assert row["edited_fraction"] == mask.mean()
    assert (row["mask_status"], row["mask_recipe"], row["mask_recipe_version"]) == ("ok", "seed", 1)
    assert json.loads(row["mask_parameters"]) == {
        "combine": "max",
        "threshold": 40,
        "dilation": 3,
        "min_component_share": 0.001,
        "min_edited_fraction": 0.001,
        "global_fraction": 0.9,
    }


def test_one_bad_row_costs_one_row():
    before = photograph()
    good, target = png(before), png(edited(before))
    jpeg = io.BytesIO()
    Image.fromarray(before).save(jpeg, "JPEG")
    result = run(
        pairs(
            (good, target),
            (b"", target),
            (good, None),
            (target,),
            (good, b"<html>not found</html>"),
            (jpeg.getvalue()[:-400], target),
            (good, target[: len(target) // 2]),
            (good, png(photograph(64, 88))),
            (png(photograph(7, 64)), png(photograph(7, 64))),
            (good, good),
            (good, target),
        ),
        recipe="seed",
        parameters={"threshold": 50},
    )
    assert result.kept["key"].to_pylist() == [f"{0:032x}", f"{10:032x}"]
    assert reasons(result) == [
        "image_empty",
        "image_empty",
        "reference_missing",
        "image_format_unknown",
        "image_truncated",
        "image_truncated",
        "size_mismatch",
        "image_too_small",
        "unchanged",
    ]
    assert all(len(sentence) > 20 for sentence in result.rejected["sentence"].to_pylist())


def test_the_pixel_limit_is_read_from_the_header():
    before = photograph()
    table = pairs((png(before), png(edited(before))))
    assert reasons(run(table, max_pixels=64 * 96 - 1)) == ["image_too_large"]
    assert reasons(run(table, max_pixels=64 * 96, recipe="seed", parameters={"threshold": 50})) == []


def test_a_reference_is_resized_only_where_the_aspect_agrees():
    before = np.asarray(Image.fromarray(photograph()).resize((300, 200), Image.Resampling.BICUBIC))
    after = edited(before)
    smaller = np.asarray(Image.fromarray(before).resize((150, 100), Image.Resampling.BOX))
    table = pairs((png(smaller), png(after)), (png(before[:, :280]), png(after)))
    assert reasons(run(table)) == ["size_mismatch"] * 2
    resized = run(table, on_size_mismatch="resize_reference")
    assert resized.kept.num_rows == 1
    assert reasons(resized) == ["size_mismatch"]
    mask = decode_mask(resized.kept["mask"][0]["bytes"].as_py())
    assert mask.shape == (200, 300)
    assert mask[50, 20]
    assert not mask[180, 250]


def test_orientation_is_applied_to_both_images_alike():
    before = photograph()
    exif = Image.Exif()
    exif[0x0112] = 6  # What is stored must be turned by 90 degrees clockwise.
    turned = png(np.rot90(before).copy(), exif=exif)
    np.testing.assert_array_equal(decode_image(turned), before)
    result = run(pairs((turned, png(edited(before)))), recipe="seed", parameters={"threshold": 50})
    assert result.kept["mask_status"].to_pylist() == ["ok"]
    assert result.kept["width"].to_pylist() == [96]


def test_statuses_that_are_kept_are_a_choice():
    same = png(photograph())
    kept = run(pairs((same, same)), recipe="uniworld", keep_statuses=["unchanged"])
    assert kept.kept["edited_fraction"].to_pylist() == [1.0]
    sentence = run(pairs((same, same)), recipe="uniworld").rejected["sentence"][0].as_py()
    assert "unchanged" in sentence
    assert "0.0000%" in sentence


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"recipe": "magic"}, "must be one of robust, seed, uniworld"),
        ({"recipe": "uniworld", "parameters": {"dilation": 3}}, "is not a known key"),
        ({"recipe": "seed", "parameters": {"threshold": 0}}, "greater than or equal to 1"),
        ({"keep_statuses": ["fine"]}, "'ok'"),
        ({"max_pixel": 5}, "Did you mean 'max_pixels'"),
        ({"recipe": 3}, "valid string"),
    ],
)
def test_a_wrong_config_is_one_clear_error(config, says):
    with pytest.raises(ConfigError, match=says):
        parse_config(EditMasksConfig, config, "masks")


def test_the_fingerprint_follows_recipe_and_parameters_and_not_their_spelling():
    of = lambda **config: EditMasks(parse_config(EditMasksConfig, config, "masks")).fingerprint()  # noqa: E731
    assert of() == of(recipe="robust", parameters={"low_threshold": 3.0})
    assert of(recipe="seed") == of(recipe="seed", parameters={"threshold": 24})
    assert len({of(), of(recipe="uniworld"), of(recipe="seed"), of(parameters={"low_threshold": 3.5})}) == 4


def test_the_grounds_of_a_mask_travel_with_it():
    before = photograph()
    table = pairs((png(before), png(edited(before))))
    robust, seed = (run(table, recipe=recipe).kept.to_pylist()[0] for recipe in ("robust", "seed"))
    assert 0.0 <= robust["mask_confidence"] <= 1.0
    evidence = json.loads(robust["mask_evidence"])
    assert evidence["references"][0]["components"]["kept"] == 1
    assert evidence["edited_fraction"] == round(robust["edited_fraction"], 6)
    assert seed["mask_confidence"] is None
    assert seed["mask_evidence"] is None


@pytest.mark.skipif(not REAL_PAIRS.is_dir(), reason="the real pairs are not on this machine")
@pytest.mark.parametrize("recipe", ["robust", "seed", "uniworld"])
def test_real_pairs_are_kept_or_rejected_with_a_reason(recipe):
    listed = [json.loads(line) for line in (REAL_PAIRS / "pairs.jsonl").read_text().splitlines()]
    files = [[(REAL_PAIRS / pair[side]).read_bytes() for side in ("src", "tgt")] for pair in listed]
    table = pairs(*files)
    result = run(table, recipe=recipe, on_size_mismatch="resize_reference")
    assert result.kept.num_rows + result.rejected.num_rows == len(listed)
    assert result.kept.num_rows >= 10
    for row in result.kept.to_pylist():
        assert decode_mask(row["mask"]["bytes"]).shape == image_size(row["target"]["bytes"])[::-1]
