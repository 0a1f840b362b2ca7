"""A second recipe beside the first, and what a rejected pair leaves behind: grounds and source, never another mask."""

import json

import pyarrow as pa
import pytest
from test_masks_step import edited, pairs, photograph, png, reasons, run

from pipelines.masks.registry import make_recipe
from pipelines.masks.score import pooled_iou
from schemas.errors import ConfigError
from schemas.images import decode_image
from schemas.outcomes import OUTCOME, no_rejections, up_to_date


def rows():
    before = photograph()
    return pairs((png(before), png(edited(before))), (png(before), png(before)), (png(before), b"broken"))


def test_the_second_recipe_is_told_of_and_changes_no_mask():
    alone, beside = run(rows()), run(rows(), compare="uniworld")
    assert beside.kept.drop_columns("mask_evidence").equals(alone.kept.drop_columns("mask_evidence"))
    assert reasons(beside) == reasons(alone) == ["unchanged", "image_format_unknown"]
    [evidence] = map(json.loads, beside.kept["mask_evidence"].to_pylist())
    told = evidence.pop("compare")
    assert evidence == json.loads(alone.kept["mask_evidence"][0].as_py())
    reference, target = (decode_image(png(image)) for image in (photograph(), edited(photograph())))
    robust, uniworld = (make_recipe(name, {}).build([reference], target) for name in ("robust", "uniworld"))
    assert told == {
        "recipe": "uniworld",
        "recipe_version": 1,
        "mask_status": uniworld.status.value,
        "edited_fraction": round(uniworld.edited_fraction, 6),
        "iou": round(pooled_iou(robust.mask, uniworld.mask), 6),
    }


def test_a_pair_rejected_for_its_status_leaves_its_grounds():
    table = rows().drop_columns("source").append_column("source", pa.array(["mine", "yours", None], pa.string()))
    rejected = run(table, compare="seed").rejected
    OUTCOME.check(rejected)
    assert rejected["source"].to_pylist() == ["yours", None]
    grounds, nothing = rejected["evidence"].to_pylist()
    assert nothing is None
    values = json.loads(grounds)
    assert values["mask_status"] == "unchanged" and values["mask_recipe"] == "robust"
    assert values["edited_fraction"] == 0.0 and 0.0 <= values["mask_confidence"] <= 1.0
    assert values["mask_evidence"]["compare"]["mask_status"] == "unchanged"
    assert values["mask_evidence"]["compare"]["iou"] == 1.0


@pytest.mark.parametrize(
    ("config", "says"),
    [({"compare": "magic"}, "must be one of"), ({"recipe": "seed", "compare": "seed"}, "is the recipe itself")],
)
def test_a_comparison_that_says_nothing_is_refused(config, says):
    with pytest.raises(ConfigError, match=says):
        run(rows(), **config)


def test_the_same_recipe_with_other_parameters_may_be_compared():
    result = run(rows(), recipe="seed", parameters={"threshold": 60}, compare="seed")
    assert json.loads(result.kept["mask_evidence"][0].as_py())["compare"]["iou"] <= 1.0


def test_outcomes_of_the_first_version_are_still_read():
    first = no_rejections().select(OUTCOME.fields.names[:6])
    first = pa.Table.from_pylist([{"key": "a", "step": "s", "step_version": 1, "outcome": "rejected"}], first.schema)
    first = first.replace_schema_metadata({b"editmill.schema": b"Outcome", b"editmill.schema_version": b"1"})
    both = pa.concat_tables([no_rejections(), up_to_date(first)])
    assert both["key"].to_pylist() == ["a"] and both["evidence"].null_count == 1
