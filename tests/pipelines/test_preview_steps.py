"""A sample's look tells how its mask came about, and never shows steps that led elsewhere."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.masks.registry import RECIPES
from pipelines.masks.step import EditMasks, EditMasksConfig
from pipelines.preview.card import PANEL_SIDE, edit_card, panel_side
from pipelines.preview.look import edit_look, is_masked, pair_look
from pipelines.preview.mask_steps import step_panels
from pipelines.preview.overlay import BACKGROUND, DROPPED, GAINED, KEPT, trace
from pipelines.preview.picture import shrink_bright
from schemas.config import parse_config
from schemas.errors import RowRejected
from schemas.images import encode_mask
from schemas.masks import MaskStatus
from schemas.records import EDIT_PAIR


def encoded(picture: np.ndarray, form: str = "PNG") -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, form)
    return {"bytes": stream.getvalue(), "path": f"a.{form.lower()}"}


def pair(scale: float = 1.0, kind: str = "ok", references: int = 1) -> dict[str, Any]:
    """A photograph and the same with a square inverted; the references `scale` times as large."""
    data = pytest.importorskip("skimage.data", reason="the photographs come with scikit-image")
    before = np.ascontiguousarray(data.astronaut()[::2, ::2])
    after = before.copy()
    if kind == "ok":
        after[40:120, 60:140] = 255 - after[40:120, 60:140]
        after[200:203, 200:203] = 255 - after[200:203, 200:203]
    sized = np.asarray(Image.fromarray(before).resize([round(side * scale) for side in before.shape[1::-1]]))
    return {
        "key": "ab" * 16,
        "references": [encoded(sized)] * references,
        "target": encoded(after),
        "instruction": "invert the square",
        "edit_type": "recolour",
        "source": "a set\x1b[31m",
        "licence": None,
    }


def masking(recipe: str, **values: Any) -> EditMasks:
    statuses = [status.value for status in MaskStatus]
    return EditMasks(parse_config(EditMasksConfig, {"recipe": recipe, "keep_statuses": statuses, **values}, "test"))


def sample(row: dict[str, Any], step: EditMasks) -> dict[str, Any]:
    [kept] = step(pa.Table.from_pylist([row], schema=EDIT_PAIR.arrow)).kept.to_pylist()
    return dict(kept)


@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize("kind", ["ok", "unchanged"])
def test_a_stored_sample_shows_the_steps_that_its_pair_shows(recipe: str, kind: str) -> None:
    row, step = pair(kind=kind), masking(recipe)
    stored, fresh = edit_look(sample(row, step), "logarithmic"), pair_look(row, step, "logarithmic")
    names = ["difference", "threshold", RECIPES[recipe].growth, "components", "pooled"]
    assert [panel.title for panel in stored.steps] == [panel.title for panel in fresh.steps] == names
    for one, other in zip(stored.steps, fresh.steps, strict=True):
        assert np.array_equal(one.picture, other.picture) and one.legend == other.legend
    assert (stored.status, stored.fraction, stored.confidence) == (fresh.status, fresh.fraction, fresh.confidence)
    assert np.array_equal(stored.mask, fresh.mask)
    card = edit_card(stored, 8.0)
    assert card.steps == stored.steps and card.recipe == recipe and card.edit_type == "recolour"
    assert card.source == "a set[31m" and card.weight is not None
    assert is_masked(sample(row, step)) and not is_masked(row)
    assert not is_masked({**sample(row, step), "mask_recipe": None}), "a mask of unknown origin is built anew"


def test_a_reference_of_another_size_is_treated_as_the_step_treated_it() -> None:
    step = masking("robust", on_size_mismatch="resize_reference")
    row = sample(pair(scale=1.5), step)
    look = edit_look(row, "logarithmic")
    assert len(look.steps) == 5 and "steps" not in dict(look.facts)


def test_a_pair_that_the_step_refuses_is_shown_without_a_mask() -> None:
    look = pair_look(pair(scale=1.5), masking("robust"), "logarithmic")
    assert (look.status, look.fraction, look.mask, look.weights, look.steps) == ("size_mismatch", None, None, None, ())
    assert "has 384 x 384 pixels" in dict(look.facts)["refused"]
    assert [panel.title for panel in edit_card(look, 1.0).panels] == ["reference", "target"]
    with pytest.raises(RowRejected, match="no bytes"):
        pair_look({**pair(), "target": {"bytes": b"", "path": None}}, masking("robust"), "logarithmic")


def test_the_recipe_s_own_parameters_are_used_again() -> None:
    step = masking("seed", parameters={"threshold": 200, "dilation": 9})
    look = edit_look(sample(pair(), step), "logarithmic")
    result = step.recipe.build(*step.decode_pair(pair()["references"], pair()["target"]))
    assert np.array_equal(look.steps[2].picture, step_panels(result)[2].picture)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mask_recipe": "of tomorrow"}, "no such recipe is known here"),
        ({"mask_recipe_version": 99}, "here recipe seed has version"),
        ({"mask_parameters": '{"threshold":250}'}, "seed gives another mask here: "),
        ({"mask_parameters": '{"never":1}'}, "never"),
        ({"mask_parameters": "no"}, "is no JSON"),
        ({"mask_parameters": "[1]"}, "mask_parameters"),
        ({"mask": {"bytes": encode_mask(np.ones((8, 9), bool)), "path": None}}, "9 x 8 pixels are stored"),
        ({"references": [encoded(np.zeros((50, 300, 3), np.uint8))]}, "aspect ratios differ"),
    ],
)
def test_steps_that_cannot_be_repeated_are_told_and_the_stored_mask_is_shown(
    changes: dict[str, Any], told: str
) -> None:
    row = {**sample(pair(), masking("seed")), **changes}
    look = edit_look(row, "logarithmic")
    assert look.steps == () and told in dict(look.facts)["steps"]
    if "mask" not in changes:
        assert look.mask.mean() == pytest.approx(row["edited_fraction"])


def test_a_sample_without_reference_is_rejected_not_drawn() -> None:
    with pytest.raises(RowRejected, match="no reference"):
        edit_look({**sample(pair(), masking("seed")), "references": []}, "logarithmic")


def test_a_step_s_picture_tells_what_it_kept_gained_and_dropped() -> None:
    before = np.array([[1, 1, 0, 0]], bool)
    after = np.array([[1, 0, 1, 0]], bool)
    assert trace(before, after).tolist() == [[list(KEPT), list(DROPPED), list(GAINED), list(BACKGROUND)]]
    step = masking("seed")
    result = step.recipe.build(*step.decode_pair(pair()["references"], pair()["target"]))
    panels = {panel.title: panel for panel in step_panels(result)}
    assert [colour for colour, _ in panels["dilation"].legend] == [KEPT, GAINED]
    assert [colour for colour, _ in panels["components"].legend] == [KEPT, DROPPED], "the spot of 3 x 3 goes"
    assert panels["pooled"].is_grid and panels["pooled"].picture.shape == (32, 32, 3)


def test_a_mark_of_one_pixel_is_seen_in_a_step_however_small_it_is_shown() -> None:
    mask = np.zeros((4000, 4000), bool)
    mask[1234, 2345] = True
    small = shrink_bright(trace(mask, mask), 640, 640)
    assert small.max() > 15 + max(BACKGROUND)
    assert np.array_equal(shrink_bright(small, 640, 640), small)


def test_five_hundred_looks_take_a_bounded_share_of_memory() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1400, 2000, 3), dtype=np.uint8)
    row = {**pair(), "references": [encoded(picture)] * 2, "target": encoded(picture)}
    look = pair_look(row, EditMasks(EditMasksConfig(recipe="seed")), "logarithmic", side=panel_side(500))
    arrays = [*look.references, look.target, look.mask, *(panel.picture for panel in look.steps)]
    assert all(array.base is None or array.base.nbytes <= 2 * array.nbytes for array in arrays)
    assert 500 * sum(array.nbytes for array in arrays) < 1.5 * 2**30
    assert [panel_side(count) for count in (0, 1, 100, 400, 10**6)] == [PANEL_SIDE, PANEL_SIDE, PANEL_SIDE, 320, 256]
