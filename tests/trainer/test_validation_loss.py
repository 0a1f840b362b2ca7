"""Held-out loss: the split by region, the rows and what they come to, and the choice of samples."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.validation.bins import AREA_BINS, area_bin
from trainer.validation.held_out import shares, spread
from trainer.validation.held_out_loss import fixed_noise, repeated
from trainer.validation.loss_rows import LOSS_SCHEMA, LossRow, loss_figures, loss_table
from trainer.validation.regions import REGIONS, border_band, split_errors
from unified_model.features import EditFeatures


def random_cells(seed: int, rows: int = 3, side: int = 8) -> torch.Tensor:
    return torch.rand(rows, 1, side, side, generator=torch.Generator().manual_seed(seed)) < 0.3


def band_by_hand(cells: torch.Tensor) -> torch.Tensor:
    band = torch.zeros_like(cells)
    rows, _, height, width = cells.shape
    for row in range(rows):
        for y in range(height):
            for x in range(width):
                near = cells[row, 0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                band[row, 0, y, x] = bool(near.any()) and not bool(near.all())
    return band


@settings(max_examples=25)
@given(st.integers(0, 2**31))
def test_the_border_is_every_cell_with_a_neighbour_on_the_other_side(seed: int) -> None:
    cells = random_cells(seed)
    assert torch.equal(border_band(cells), band_by_hand(cells))


def test_a_whole_or_an_empty_edit_has_no_border_and_the_image_edge_is_none() -> None:
    for cells in (torch.ones(1, 1, 6, 6, dtype=torch.bool), torch.zeros(1, 1, 6, 6, dtype=torch.bool)):
        assert not border_band(cells).any()
    half = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    half[..., :3] = True
    assert border_band(half)[0, 0, 0].tolist() == [False, False, True, True, False, False]


@settings(max_examples=25)
@given(st.integers(0, 2**31))
def test_inside_and_outside_make_up_all_and_counts_are_of_cells(seed: int) -> None:
    cells = random_cells(seed)
    errors = torch.rand(cells.shape, generator=torch.Generator().manual_seed(seed))
    split = split_errors(errors, cells)
    assert set(split) == set(REGIONS)
    assert (split["inside"][1] + split["outside"][1]).tolist() == [64] * 3
    torch.testing.assert_close(split["inside"][0] + split["outside"][0], errors.double().sum(dim=(1, 2, 3)))
    for row in range(3):
        assert float(split["border"][0][row]) == pytest.approx(float(errors[row][border_band(cells)[row]].sum()))


def test_a_cell_that_is_not_finite_stays_in_its_own_region() -> None:
    cells = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    cells[0, 0, 0, 0] = True
    errors = torch.ones(1, 1, 4, 4)
    errors[0, 0, 0, 0] = math.nan
    split = split_errors(errors, cells)
    assert math.isnan(split["inside"][0]) and float(split["outside"][0]) == 15.0


@pytest.mark.parametrize(("fraction", "name"), [
    (0.0, "under_1"), (0.0099, "under_1"), (0.01, "1_to_5"), (0.05, "5_to_20"), (0.2, "over_20"), (1.0, "over_20"),
])  # fmt: skip
def test_bins_hold_their_lower_bound(fraction: float, name: str) -> None:
    assert area_bin(fraction, "ok") == name
    assert area_bin(fraction, "global") == "global"


def row(key: str, level: float, bin_: str = "under_1", inside: float = 2.0, cells: int = 4) -> LossRow:
    return LossRow("raw", key, bin_, 0.005, level, inside, cells, 6.0, 60, 1.0, 8)


def test_figures_pool_cells_and_leave_out_what_has_none() -> None:
    rows = [row("a", 0.1), row("a", 0.9, inside=6.0), row("b", 0.1, "global", inside=64.0, cells=64)]
    figures = loss_figures(rows)
    assert figures["loss_inside"] == pytest.approx((2 + 6 + 64) / (4 + 4 + 64))
    assert figures["loss_inside_under_1"] == pytest.approx(1.0)
    assert figures["loss_inside_global"] == pytest.approx(1.0)
    assert figures["loss_t0.9"] == pytest.approx(12 / 64)
    assert figures["loss"] == pytest.approx((2 + 6 + 64 + 18) / (72 + 180))
    assert "loss_inside_over_20" not in figures and loss_figures([]) == {}
    shuffled = rows.copy()
    random.Random(1).shuffle(shuffled)
    assert loss_figures(shuffled) == figures


def test_rows_become_a_table_of_the_schema() -> None:
    rows = [row("a", 0.1), row("a", 0.9)]
    table = loss_table(rows, 100)
    assert table.schema == LOSS_SCHEMA
    assert table["step"].to_pylist() == [100, 100] and table["level"].to_pylist() == [0.1, 0.9]
    assert loss_table([], 3).num_rows == 0


@given(st.integers(0, 40), st.integers(1, 9))
def test_ranks_share_samples_so_that_each_counts_once_and_all_do_equally_many(samples: int, world: int) -> None:
    numbers = list(range(100, 100 + samples))
    parts = [list(shares(numbers, rank, world)) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    counted = [number for part in parts for number, counts in part if counts]
    assert sorted(counted) == numbers
    assert all(parts[place % world][place // world] == (number, True) for place, number in enumerate(numbers))


def test_samples_to_edit_come_from_every_bin_in_turn() -> None:
    bins = ["under_1"] * 4 + ["over_20"] * 4 + ["global"]
    assert spread(range(9), bins, 5) == [0, 4, 8, 1, 5]
    assert next(iter(AREA_BINS)) == "under_1" and spread(range(9), bins, 99) == [0, 4, 8, 1, 5, 2, 6, 3, 7]


def test_noise_follows_from_seed_and_key_alone() -> None:
    state = torch.get_rng_state()
    noise = fixed_noise(0, "key", (4, 8, 8))
    assert torch.equal(noise, fixed_noise(0, "key", (4, 8, 8))) and noise.shape == (1, 4, 8, 8)
    assert not torch.equal(noise, fixed_noise(1, "key", (4, 8, 8)))
    assert not torch.equal(noise, fixed_noise(0, "other", (4, 8, 8)))
    assert torch.equal(state, torch.get_rng_state())


def test_a_row_is_repeated_with_its_images() -> None:
    values = {"vlm_states": torch.rand(1, 5, 3), "vlm_mask": torch.ones(1, 5, dtype=torch.bool)}
    images = {"siglip_tokens": torch.rand(2, 4, 3), "image_rows": torch.tensor([0, 0]), "image_positions": torch.tensor([1, 3])}  # fmt: skip  # noqa: E501
    three = repeated(EditFeatures(**values, **images), 3)
    assert len(three) == 3 and three.image_rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert three.image_positions.tolist() == [1, 3] * 3 and three.siglip_tokens.shape == (6, 4, 3)
