"""Which sample stands where: shares, permutations, blocks of one bucket, and independence of ranks. Pure arithmetic."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.order import Order, step_positions
from trainer.data.permutation import permuted
from trainer.data.shares import Shares, fractions


@given(st.integers(1, 300), st.text(max_size=5))
def test_a_permutation_holds_every_place_once(size: int, key: str) -> None:
    places = permuted(key, size, np.arange(size))
    assert sorted(places.tolist()) == list(range(size))
    assert permuted(key, size, np.array([size - 1]))[0] == places[-1]


def test_permutations_of_large_sets_answer_at_single_places_and_spread() -> None:
    places = permuted("a", 10_000_019, np.arange(2000))
    assert len(set(places.tolist())) == 2000
    assert abs(places.mean() / 10_000_019 - 0.5) < 0.03
    assert (places != permuted("b", 10_000_019, np.arange(2000))).mean() > 0.99


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), st.integers(0, 10**9))
def test_turns_are_counted_without_walking_there(weights: list[float], first: int) -> None:
    shares = Shares(fractions(weights), "key")
    turns = shares.turns(first, 50)
    before, after = shares.before(first), shares.before(first + 50)
    assert sum(before) == first
    assert np.bincount(turns, minlength=len(weights)).tolist() == [b - a for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.7, 0.2, 0.09, 0.01], [3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
def test_every_window_holds_the_shares(weights: list[float]) -> None:
    turns = Shares(fractions(weights), "key").turns(123, 50_000)
    for member, weight in enumerate(weights):
        counts = np.concatenate([[0], np.cumsum(turns == member)])
        for window in (10, 100, 5000):
            off = counts[window:] - counts[:-window] - window * weight / sum(weights)
            assert np.abs(off).max() < 4


def mixed(rows: int = 8, seed: int = 3) -> tuple[Order, np.ndarray, np.ndarray]:
    """Three data sets of 500, 300 and 60 samples over three buckets, weights 2 : 1 : 1."""
    generator = np.random.default_rng(0)
    datasets = np.repeat(np.arange(3, dtype=np.uint8), [500, 300, 60])
    buckets = generator.choice(3, len(datasets), p=[0.6, 0.3, 0.1]).astype(np.uint8)
    return Order(seed, buckets, datasets, [2.0, 1.0, 1.0], rows), buckets, datasets


def test_a_block_is_of_one_bucket_and_needs_a_sample_twice_only_where_an_epoch_ends() -> None:
    order, buckets, _ = mixed()
    twice = 0
    for number in range(300):
        block = order.block(number)
        assert (buckets[block.samples] == block.bucket).all()
        twice += len(set(block.samples.tolist())) < 8
    assert twice < 10


def test_data_sets_keep_their_shares_over_any_stretch() -> None:
    order, buckets, datasets = mixed()
    taken = order.samples_at(range(8000))
    for member, share in enumerate((0.5, 0.25, 0.25)):
        counts = np.concatenate([[0], np.cumsum(datasets[taken] == member)])
        off = counts[1000:] - counts[:-1000] - 1000 * share
        # A stretch may begin and end in the middle of a block, in each of three buckets.
        assert np.abs(off).max() < 20
    shares = np.bincount(buckets[taken], minlength=3) / 8000
    expected = np.zeros(3)
    for member, share in enumerate((0.5, 0.25, 0.25)):
        expected += share * np.bincount(buckets[datasets == member], minlength=3) / (datasets == member).sum()
    assert np.abs(shares - expected).max() < 0.005


def test_a_small_data_set_goes_on_with_its_next_epoch_and_every_epoch_holds_every_sample_once() -> None:
    order, buckets, datasets = mixed()
    taken = order.samples_at(range(8000))
    for dataset in range(3):
        for bucket in range(3):
            pile = np.flatnonzero((datasets == dataset) & (buckets == bucket))
            mine = taken[(datasets[taken] == dataset) & (buckets[taken] == bucket)]
            epochs = [mine[first : first + len(pile)] for first in range(0, len(mine) - len(pile) + 1, len(pile))]
            assert epochs and all(sorted(epoch.tolist()) == pile.tolist() for epoch in epochs)
            assert len({tuple(epoch.tolist()) for epoch in epochs}) == len(epochs) or len(pile) < 4
    small = Counter(taken[datasets[taken] == 2].tolist())
    # 2,000 rows out of 60 samples: 33.3 each.
    assert min(small.values()) >= 31 and max(small.values()) <= 36


def test_the_order_follows_from_seed_and_position_alone() -> None:
    order, _, _ = mixed()
    whole = order.samples_at(range(4000))
    again, _, _ = mixed()
    assert np.array_equal(again.samples_at(range(3997, 3999)), whole[3997:3999])
    assert not np.array_equal(mixed(seed=4)[0].samples_at(range(4000)), whole)


@pytest.mark.parametrize(("batch_size", "accumulation", "ranks"), [(12, 1, 1), (3, 2, 2), (1, 4, 3), (1, 1, 12)])
def test_every_rank_takes_its_share_of_the_same_positions(batch_size: int, accumulation: int, ranks: int) -> None:
    order, buckets, _ = mixed(rows=12)
    for step in (0, 7):
        shares = [step_positions(step, batch_size, accumulation, rank, ranks) for rank in range(ranks)]
        assert {len(share) for share in shares} == {accumulation}
        taken = sorted(place for share in shares for micro in share for place in micro)
        assert taken == list(range(step * 12, step * 12 + 12))
        for share in shares:
            for micro in share:
                assert len(set(buckets[order.samples_at(micro)].tolist())) == 1
