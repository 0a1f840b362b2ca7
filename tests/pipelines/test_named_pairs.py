"""Image files that their names make pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.preview.named_pairs import HABITS, NamedPair, pair_names


@pytest.mark.parametrize(
    ("reference", "target", "name"),
    [
        ("cat_src.webp", "cat_tgt.png", "cat"),
        ("cat.reference.jpg", "cat.target.jpeg", "cat"),
        ("Cat-Before.JPG", "Cat-After.PNG", "Cat"),
        ("reference/a/cat.png", "target/a/cat.jpg", "a/cat"),
        ("deep/before/cat.png", "deep/after/cat.png", "deep/cat"),
        ("source/1.png", "target/1.png", "1"),
        ("input/1.v2.png", "output/1.v2.png", "1.v2"),
        ("a b/cat input.png", "a b/cat output.png", "a b/cat"),
    ],
)
def test_pairs_are_found_as_people_name_them(reference: str, target: str, name: str) -> None:
    assert pair_names([target, "readme.png", reference]) == ([NamedPair(name, reference, target)], ["readme.png"])


def test_what_cannot_be_told_is_left_alone() -> None:
    paths = ["cat_src.png", "cat_src.jpg", "cat_tgt.png", "dog_src.png", "_src.png", "src.png", "cat_mask.png"]
    assert pair_names(paths) == ([], sorted(paths))


@given(st.lists(st.tuples(st.sampled_from(["a", "b_src", "c"]), st.sampled_from(HABITS), st.booleans()), max_size=12))
def test_a_file_is_in_one_pair_or_alone(names: list[tuple[str, tuple[str, str], bool]]) -> None:
    paths = sorted({f"{name}_{habit[second]}.png" for name, habit, second in names})
    pairs, alone = pair_names(paths)
    used = [path for pair in pairs for path in (pair.reference, pair.target)]
    assert sorted(used + alone) == paths
