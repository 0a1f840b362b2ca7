"""The filter's rules: each a scan expression that says which rows pass, and a sentence for those that do not.

The same expressions go into the scan as its predicate and, negated, into the scan of what is rejected, so that every
row is in exactly one of the two. Null and NaN are made explicit in each, so that no expression is ever null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.metadata_filter.columns import LARGEST_SIDE, SIZES, FileColumns
from pipelines.metadata_filter.config import SCALES, MetadataFilterConfig
from schemas.errors import SchemaError

Sentences = Callable[[pa.Table], pa.ChunkedArray]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        reason: of the rows that fail it.
        passes: true or false for every row, never null.
        sentences: from a table of failing rows with the `ImageRecord` columns under the file's types, one each.
    """

    reason: str
    passes: pc.Expression
    sentences: Sentences


def bounded_columns(config: MetadataFilterConfig) -> dict[str, str]:
    """`ImageRecord` column that a bound needs -> the first config field that needs it."""
    fields = {
        "min_aesthetic": ("aesthetic",),
        "max_aesthetic": ("aesthetic",),
        "min_width": ("width",),
        "min_height": ("height",),
        "min_side": SIZES,
        "max_aspect": SIZES,
        "max_watermark": ("watermark",),
        "max_unsafe": ("unsafe",),
        "min_similarity": ("similarity",),
    }
    needed: dict[str, str] = {}
    for name, columns in fields.items():
        if getattr(config, name) is not None:
            for column in columns:
                needed.setdefault(column, name)
    return needed


def check_bounds_have_columns(config: MetadataFilterConfig, columns: FileColumns, path: str) -> None:
    """Raises:
    SchemaError: a bound is set on a column that the file lacks.
    """
    for column, name in bounded_columns(config).items():
        if column not in columns.names:
            raise SchemaError(
                f"{path}: {column}",
                sorted(columns.names.values()),
                f"the file has no column for '{column}', which {name} needs",
                f"Drop {name}, or rename the column that holds it (see schemas/aliases).",
            )


def rules(config: MetadataFilterConfig, columns: FileColumns) -> list[Rule]:
    """The rules in the order in which they are tried; a rejected row gets the reason of the first it fails."""
    return list(_rules(config, columns))


def all_pass(chain: list[Rule]) -> pc.Expression:
    """True where every rule passes."""
    return reduce(lambda left, right: left & right, (rule.passes for rule in chain))


def _rules(config: MetadataFilterConfig, columns: FileColumns) -> Iterator[Rule]:
    url = columns.field("url")
    if pa.types.is_dictionary(columns.types["url"]):
        url = url.cast(pa.string())
    yield Rule("url_missing", url.is_valid() & (pc.binary_length(url) > 0), _say("the row has no url"))

    needed = bounded_columns(config)
    numbers = {name: _Number(columns, name) for name in columns.names if name in needed or name in SIZES}
    strict = config.missing == "reject"
    for name, number in numbers.items():
        if strict and name in needed:
            yield Rule(f"{name}_missing", ~number.missing, _say(f"{name} is missing (null or not a number)"))

    if score := numbers.get("aesthetic"):
        if config.score_scale == "unit_0_1":
            low, high = SCALES["unit_0_1"]
            yield Rule(
                "aesthetic_off_scale",
                score.missing | (score.at_least(low) & score.at_most(high)),
                _say("aesthetic ", "aesthetic", " lies outside the declared scale 0 to 1"),
            )
        if (bound := config.min_aesthetic) is not None:
            yield _least("aesthetic_too_low", score, bound, "")
        if (bound := config.max_aesthetic) is not None:
            yield _most("aesthetic_too_high", score, bound)

    for name in SIZES:
        if name in numbers:
            number = numbers[name]
            yield Rule(
                f"{name}_invalid",
                number.missing | (number.at_least(1) & number.at_most(LARGEST_SIDE) & number.whole()),
                _say(f"{name} ", name, f" is no whole number of pixels from 1 to {LARGEST_SIDE}"),
            )
    if config.min_width is not None:
        yield _least("too_narrow", numbers["width"], config.min_width, " pixels")
    if config.min_height is not None:
        yield _least("too_short", numbers["height"], config.min_height, " pixels")
    if config.min_side is not None:
        width, height = numbers["width"], numbers["height"]
        yield Rule(
            "side_too_short",
            (width.missing | width.at_least(config.min_side)) & (height.missing | height.at_least(config.min_side)),
            _say("", "width", " x ", "height", f" pixels has a side under the minimum {config.min_side}"),
        )
    if config.max_aspect is not None:
        width, height = numbers["width"], numbers["height"]
        yield Rule(
            "aspect_too_wide",
            width.missing | height.missing | (_aspect(width.value, height.value) <= pc.scalar(config.max_aspect)),
            _aspect_sentences(config.max_aspect),
        )
    if config.max_watermark is not None:
        yield _most("watermark_too_high", numbers["watermark"], config.max_watermark)
    if config.max_unsafe is not None:
        yield _most("unsafe_too_high", numbers["unsafe"], config.max_unsafe)
    if config.min_similarity is not None:
        yield _least("similarity_too_low", numbers["similarity"], config.min_similarity, "")


class _Number:
    """A numeric column in a scan. It is compared in the column's own type: 0.1 as float32 meets an inclusive 0.1."""

    def __init__(self, columns: FileColumns, name: str) -> None:
        self.name = name
        found = columns.types[name]
        self.value = columns.field(name)
        if (name in SIZES and found in (pa.int32(), pa.int64())) or found in (pa.float32(), pa.float64()):
            self.type = found
        else:
            self.type = pa.float64()
            self.value = self.value.cast(pa.float64())
        floating = pa.types.is_floating(self.type)
        # Kleene logic: null | true is true. Parquet's statistics ignore NaN, so it is asked for by name.
        self.missing = self.value.is_null() | pc.is_nan(self.value) if floating else self.value.is_null()
        self.present = self.value.is_valid() & ~pc.is_nan(self.value) if floating else self.value.is_valid()

    def at_least(self, bound: float) -> pc.Expression:
        return self.present & (self.value >= self._scalar(bound))

    def at_most(self, bound: float) -> pc.Expression:
        return self.present & (self.value <= self._scalar(bound))

    def whole(self) -> pc.Expression:
        if pa.types.is_integer(self.type):
            return self.present
        return self.present & (pc.floor(self.value) == self.value)

    def _scalar(self, bound: float) -> pc.Expression:
        return pc.scalar(pa.scalar(bound, self.type))


def _least(reason: str, number: _Number, bound: float, unit: str) -> Rule:
    sentence = _say(f"{number.name} ", number.name, f"{unit} is under the minimum {bound:g}")
    return Rule(reason, number.missing | number.at_least(bound), sentence)


def _most(reason: str, number: _Number, bound: float) -> Rule:
    sentence = _say(f"{number.name} ", number.name, f" is above the maximum {bound:g}")
    return Rule(reason, number.missing | number.at_most(bound), sentence)


def _aspect(width: pc.Expression, height: pc.Expression) -> pc.Expression:
    wide, high = width.cast(pa.float64()), height.cast(pa.float64())
    return pc.divide(pc.max_element_wise(wide, high), pc.min_element_wise(wide, high))


def _aspect_sentences(bound: float) -> Sentences:
    def sentences(table: pa.Table) -> pa.ChunkedArray:
        wide, high = table["width"].cast(pa.float64()), table["height"].cast(pa.float64())
        ratio = pc.round(pc.divide(pc.max_element_wise(wide, high), pc.min_element_wise(wide, high)), 3)
        parts = (table["width"], " x ", table["height"], " pixels is ", ratio, f":1, more than the maximum {bound:g}:1")
        return _join(table.num_rows, *parts)

    return sentences


def _say(*parts: str) -> Sentences:
    """Sentences made of fixed text at the even places of `parts` and of columns named at the odd ones."""

    def sentences(table: pa.Table) -> pa.ChunkedArray:
        pieces = [part if place % 2 == 0 else table[part] for place, part in enumerate(parts)]
        return _join(table.num_rows, *pieces)

    return sentences


def _join(rows: int, *parts: str | pa.ChunkedArray) -> pa.ChunkedArray:
    texts = [pa.scalar(part) if isinstance(part, str) else pc.fill_null(part.cast(pa.string()), "?") for part in parts]
    joined = pc.binary_join_element_wise(*texts, "") if len(texts) > 1 else pa.repeat(texts[0], rows)
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined])
