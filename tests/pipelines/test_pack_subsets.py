"""Subsets: the same sample is in the same one whatever is added, what shares an image stays together, shares hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack_samples import RowsLoader, TableLoader, edit_row, loaders_of, table_of, tree

from pipelines.pack import PackConfig, pack
from pipelines.pack.subsets import drawn, groups_by_image
from pipelines.shards.read import open_packed
from pipelines.shards.validate import validate
from schemas.config import parse_config
from schemas.errors import ConfigError
from schemas.keys import pair_key

HALVES = PackConfig(subsets={"train": 0.5, "test": 0.5}, samples_per_shard=3, row_group_rows=2)

Pair = tuple[list[int], int]
PAIRS = st.lists(st.tuples(st.lists(st.integers(0, 12), min_size=1, max_size=3), st.integers(0, 12)), max_size=20)


def groups(pairs: list[Pair]) -> list[int]:
    images = np.array([image for before, after in pairs for image in (*before, after)], np.uint64)
    return groups_by_image(images, np.array([len(before) for before, _ in pairs], np.int32), targets=True).tolist()


@given(PAIRS)
def test_samples_that_share_an_image_are_one_group_and_others_are_not(pairs: list[Pair]) -> None:
    found = groups(pairs)
    parts = [{place} for place in range(len(pairs))]
    for one in range(len(pairs)):
        for other in range(one):
            if {*pairs[one][0], pairs[one][1]} & {*pairs[other][0], pairs[other][1]} and parts[one] is not parts[other]:
                parts[one] |= parts[other]
                for place in parts[other]:
                    parts[place] = parts[one]
    for one in range(len(pairs)):
        assert {place for place, group in enumerate(found) if group == found[one]} == parts[one]


def test_the_original_image_decides_whatever_turns_and_edits_are_added() -> None:
    chain: list[Pair] = [([50], 9), ([9], 3), ([3], 70)]
    assert groups(chain) == [50, 50, 50]
    assert groups([([9], 3), *chain, ([50], 1), ([70], 0)]) == [50] * 6
    assert groups([([5], 6), ([6], 5)]) == [5, 5]


def test_shares_hold_and_nothing_moves_between_two_that_stay() -> None:
    numbers = np.random.default_rng(0).integers(0, 2**64, 100_000, np.uint64)
    config = PackConfig(subsets={"train": 0.98, "validation": 0.01, "test": 0.01})
    chosen = [list(config.subsets)[place] for place in drawn(numbers, config)]
    counts = Counter(chosen)
    assert abs(counts["validation"] - 1000) < 150 and abs(counts["test"] - 1000) < 150
    assert [list(config.subsets)[place] for place in drawn(numbers[::-1], config)] == chosen[::-1]
    # The order in which a config names them decides nothing.
    assert PackConfig(subsets={"test": 0.01, "train": 0.98, "validation": 0.01}) == config
    # Small numbers, as the least of many hashes are, draw as evenly as others.
    assert 0.4 < float(np.mean(drawn(np.arange(10_000, dtype=np.uint64), HALVES))) < 0.6


def turn(number: int, before: dict[str, Any]) -> dict[str, Any]:
    """A further turn: an edit of what another sample ended with."""
    row = edit_row(number)
    references = [before["target"]]
    key = pair_key([references[0]["bytes"]], row["target"]["bytes"], row["instruction"])
    return {**row, "key": key, "references": references}


def subsets_of(out: Path) -> dict[str, str]:
    index = open_packed(out).index
    return dict(zip(index["key"].to_pylist(), index["subset"].to_pylist(), strict=True))


def test_each_subset_has_its_own_shards_and_turns_of_an_image_stay_together(tmp_path: Path) -> None:
    first = pack(loaders_of(20, 6), HALVES, tmp_path / "a").manifest
    before = subsets_of(tmp_path / "a")
    assert validate(tmp_path / "a") == [] and first.subsets == Counter(before.values()) and len(first.subsets) == 2
    for entry in first.shards:
        subset = entry.name.rpartition("/")[2].split("-")[1]
        assert entry.samples <= 3 and subset in first.subsets
    index = open_packed(tmp_path / "a").index
    assert all(
        f"-{row['subset']}-" in row["shard"] and f"-{row['subset']}-" in row["parquet_shard"]
        for row in index.to_pylist()
    )
    # Data grows: nothing moves, and later turns go where their image is.
    turns = [turn(100 + number, edit_row(number)) for number in range(20)]
    pack([TableLoader(table_of(turns)), RowsLoader(0, 30)], HALVES, tmp_path / "b")
    after = subsets_of(tmp_path / "b")
    assert {key: after[key] for key in before} == before and len(after) == 50
    for number, row in enumerate(turns):
        assert after[row["key"]] == before[edit_row(number)["key"]]
    # The cut of the input decides nothing here either.
    pack(loaders_of(20, 1), HALVES, tmp_path / "c")
    assert tree(tmp_path / "c") == tree(tmp_path / "a")


def test_rules_take_their_samples_first_and_keys_may_decide(tmp_path: Path) -> None:
    rules = {"recoloured": {"edit_types": ["recolour"]}, "global_ones": {"mask_statuses": ["global"]}, "rest": 1}
    config = parse_config(PackConfig, {"subsets": rules, "subset_by": "key"}, "pack")
    pack(loaders_of(15, 4), config, tmp_path / "a")
    assert validate(tmp_path / "a") == []
    found = subsets_of(tmp_path / "a")
    for number in range(15):
        row = edit_row(number)
        kind = "recoloured" if row["edit_type"] == "recolour" else "rest"
        # Of two rules that fit, the first by name.
        assert found[row["key"]] == ("global_ones" if row["mask_status"] == "global" else kind)
    images = PackConfig(record="images", subsets={"a": 0.5, "b": 0.5})
    pack(loaders_of(8, 3, "images"), images, tmp_path / "b")
    assert validate(tmp_path / "b") == [] and set(subsets_of(tmp_path / "b").values()) == {"a", "b"}


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"subsets": {"train": 0.9}}, "add up to 0.9"),
        ({"subsets": {"train": 1.0, "all": 0.0}}, "'all'"),
        ({"subsets": {"a-b": 1.0}}, "'a-b'"),
        ({"subsets": {"a": 1.5, "b": -0.5}}, "share"),
        ({"subsets": {"a": {"sources": ["x"]}}}, "add up to 0"),
        ({"subsets": {"a": 1.0, "b": {}}}, "must have a condition"),
        ({"subsets": {"a": 1.0, "b": {"max_edited": 0.1}}}, "conditions are .*max_edited_fraction"),
        ({"record": "images", "subsets": {"a": 1.0, "b": {"edit_types": ["x"]}}}, "only edits"),
    ],
)
def test_a_wrong_config_is_refused(values: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        parse_config(PackConfig, values, "pack")
