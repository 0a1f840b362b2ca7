"""What every registered conditioner must do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.errors import InputError
from unified_model.conditioners import CONDITIONERS, QueryConditioner, Widths, load_conditioner
from unified_model.config import UnifiedModelConfig
from unified_model.features import EditFeatures
from unified_model.model import UnifiedEditModel

WIDTHS = Widths(vlm=24, siglip=12, context=16, pooled=8)


LENGTHS = (5, 9, 7)
IMAGES = [(0, 2), (1, 1), (1, 6)]
"""Row and position of each image; the last row has none."""


def features(rows: list[int]) -> EditFeatures:
    """Rows of `LENGTHS` tokens, with one, two and no images of 4 tokens; only `rows`, padded to the longest of them."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 9, WIDTHS.vlm, generator=generator)
    tokens = torch.randn(3, 4, WIDTHS.siglip, generator=generator)
    length = max(LENGTHS[row] for row in rows)
    chosen = [number for number, (row, _) in enumerate(IMAGES) if row in rows]
    return EditFeatures(
        vlm_states=states[rows, :length],
        vlm_mask=torch.stack([torch.arange(length) < LENGTHS[row] for row in rows]),
        siglip_tokens=tokens[chosen],
        image_rows=torch.tensor([rows.index(IMAGES[number][0]) for number in chosen], dtype=torch.long),
        image_positions=torch.tensor([IMAGES[number][1] for number in chosen], dtype=torch.long),
    )


@pytest.mark.parametrize("name", CONDITIONERS)
def test_a_conditioner_keeps_the_contract(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    conditioner = CONDITIONERS[name].fresh(WIDTHS)
    assert conditioner.name == name
    assert conditioner.widths == WIDTHS
    assert not list(conditioner.parameters(recurse=False))
    assert conditioner.pooled.shape == (WIDTHS.pooled,)
    # A linear layer that begins at zero would hide what it is given.
    for parameter in conditioner.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    together = conditioner(features([0, 1, 2]))
    assert together.tokens.shape[::2] == (3, WIDTHS.context)
    assert together.pooled.shape == (3, WIDTHS.pooled)
    for row in range(3):
        alone = conditioner(features([row]))
        mask = torch.ones_like(together.tokens[row, :, 0], dtype=torch.bool)
        kept = together.tokens[row][mask if together.mask is None else together.mask[row]]
        assert alone.mask is None
        assert alone.tokens.shape[1] == conditioner.context_tokens(
            LENGTHS[row], 4 * sum(one == row for one, _ in IMAGES)
        )
        torch.testing.assert_close(kept, alone.tokens[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.pooled[row], alone.pooled[0], atol=1e-5, rtol=0)
    conditioner.save_pretrained(tmp_path)
    assert list(tmp_path.glob("*.safetensors"))
    loaded = load_conditioner(tmp_path)
    assert type(loaded) is CONDITIONERS[name]
    saved = conditioner.state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in loaded.state_dict().items())
    torch.testing.assert_close(loaded(features([0, 1, 2])).tokens, together.tokens)


def test_an_unknown_conditioner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        load_conditioner(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "Elsewhere"}))
    with pytest.raises(InputError, match="Elsewhere"):
        load_conditioner(tmp_path)


def test_queries_give_a_context_of_fixed_length_that_begins_at_the_remembered_vector() -> None:
    torch.manual_seed(0)
    conditioner = QueryConditioner.fresh(WIDTHS, layers=2, query_count=6)
    conditioner.remember_pooled(torch.arange(WIDTHS.pooled))
    made = conditioner(features([0, 1, 2]))
    assert made.tokens.shape == (3, 6, WIDTHS.context)
    assert made.mask is None
    assert torch.equal(made.pooled, torch.arange(WIDTHS.pooled).float().expand(3, -1))
    # Each of the two images of a row is read as the one that it is.
    given = features([1])
    turned = replace(given, siglip_tokens=given.siglip_tokens.flip(0))
    assert not torch.allclose(conditioner(given).tokens, conditioner(turned).tokens, atol=1e-6)


def test_queries_join_a_whole_model_and_train(tiny_folder: Path) -> None:
    places = {part: str(tiny_folder / part) for part in ("vlm", "siglip", "transformer", "vae")}
    model = UnifiedEditModel.from_components(
        UnifiedModelConfig(**places, conditioner_kind="queries", max_pixels=112 * 112)
    )
    inputs = model.processor(["Make it red", None], [[np.zeros((48, 48, 3), np.uint8)], []])
    velocity = model.core(torch.randn(2, 16, 4, 4), torch.full((2,), 0.5), model.features(inputs))
    velocity.square().mean().backward()
    assert [name for name, value in model.core.conditioner.named_parameters() if value.grad is None] == []


def test_queries_at_release_size() -> None:
    with torch.device("meta"):
        conditioner = QueryConditioner.fresh(Widths(vlm=3584, siglip=1152, context=4096, pooled=768))
    assert round(sum(value.numel() for value in conditioner.parameters()) / 1e9, 1) == 0.3
    assert conditioner.blocks[0].heads == 32
