"""The filter's rules: each a condition in SQL that says which rows pass, and a sentence for those that do not.

Every condition is true or false, never null: `coalesce` says what a missing value comes to, and keeps DuckDB from
deciding by Parquet's statistics, which know nothing of NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipelines.metadata_filter.columns import LARGEST_SIDE, SCORES, SIZES, FileColumns, holds_bytes
from pipelines.metadata_filter.config import MetadataFilterConfig
from pipelines.metadata_filter.number_rules import Number, Rule
from pipelines.metadata_filter.scales import score_limits
from pipelines.metadata_filter.sentences import aspect_sentences, say
from pipelines.metadata_filter.sql import float_literal, text_literal
from pipelines.metadata_filter.statistics import ColumnStatistics
from pipelines.metadata_filter.where_columns import bind_to
from schemas.errors import SchemaError


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
        "languages": ("language",),
    }
    needed: dict[str, str] = {}
    for name, columns in fields.items():
        if getattr(config, name) not in (None, ()):
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


def rules(
    config: MetadataFilterConfig,
    columns: FileColumns,
    path: str,
    as_bytes: bool,
    statistics: Mapping[str, ColumnStatistics] | None = None,
) -> list[Rule]:
    """The rules in the order in which they are tried; a rejected row gets the reason of the first it fails. Those that
    need addresses or captions, which are slow to read, come last.

    Args:
        path: of the file, for errors.
        as_bytes: texts come as bytes.
        statistics: of `ImageRecord` columns over all rows that the rules are for; a rule is left out where they prove
            that every row passes it.

    Raises:
        SchemaError: `where` does not fit the file's columns.
    """
    slow = {columns.names[name] for name in ("url", "caption") if name in columns.names}
    chain = list(_rules(config, columns, path, as_bytes, statistics or {}))
    return sorted(chain, key=lambda rule: bool(slow.intersection(rule.columns)))


def _rules(
    config: MetadataFilterConfig,
    columns: FileColumns,
    path: str,
    as_bytes: bool,
    statistics: Mapping[str, ColumnStatistics],
) -> Iterator[Rule]:
    needed = bounded_columns(config)
    numbers = {
        name: Number(columns, name, config.missing == "reject" and name in needed, statistics.get(name))
        for name in ("aesthetic", *SIZES, *SCORES)
        if name in columns.names and name in (*needed, *SIZES)
    }
    limits = score_limits(config.score_scale)
    for name, number in numbers.items():
        if number.strict and not number.always_present:
            yield number.rule(f"{name}_missing", number.is_present, f"{name} is missing (null or not a number)")
        if name in SIZES:
            if not (number.whole and number.always_within(1, LARGEST_SIDE)):
                yield number.rule(
                    f"{name}_invalid",
                    number.passes(f"{number.within(1, LARGEST_SIDE)} AND floor({number.value}) = {number.value}"),
                    f"{name} ",
                    name,
                    f" is no whole number of pixels from 1 to {LARGEST_SIDE}",
                )
            least = getattr(config, f"min_{name}")
            reason = "too_narrow" if name == "width" else "too_short"
        else:
            low, high = limits[name]
            if not number.always_within(low, high):
                scale = f" lies outside its scale, {round(low):g} to {round(high):g}"
                yield number.rule(f"{name}_off_scale", number.passes(number.within(low, high)), f"{name} ", name, scale)
            least = getattr(config, f"min_{name}", None)
            reason = f"{name}_too_low"
        if least is not None:
            unit = " pixels" if name in SIZES else ""
            passes = number.passes(f"{number.value} >= {number.literal(least)}")
            yield number.rule(reason, passes, f"{name} ", name, f"{unit} is under the minimum {least:g}")
        if (most := getattr(config, f"max_{name}", None)) is not None:
            passes = number.passes(f"{number.value} <= {number.literal(most)}")
            yield number.rule(f"{name}_too_high", passes, f"{name} ", name, f" is above the maximum {most:g}")
    if (side := config.min_side) is not None:
        sentence = say("", "width", " x ", "height", f" pixels has a side under the minimum {side}")
        for name in SIZES:
            number = numbers[name]
            passes = number.passes(f"{number.value} >= {number.literal(side)}")
            yield Rule("side_too_short", passes, sentence, (number.column,))
    if (aspect := config.max_aspect) is not None:
        sides = [numbers[name] for name in SIZES]
        both = ", ".join(f"{number.value}::DOUBLE" for number in sides)
        gaps = "".join(f" OR isnan({number.value})" for number in sides if number.floating)
        passes = f"coalesce(greatest({both}) / least({both}) <= {float_literal(aspect)}{gaps}, true)"
        yield Rule("aspect_too_wide", passes, aspect_sentences(aspect), tuple(number.column for number in sides))
    if config.languages:
        yield from _language_rules(config, columns, as_bytes)
    if (bound_where := bind_to(config, columns, path, as_bytes)) is not None:
        sentence = say(f"the row does not meet: {config.where}")
        yield Rule("where_not_met", f"coalesce({bound_where.sql}, false)", sentence, bound_where.columns)
    name = columns.names["url"]
    empty = "''::BLOB" if holds_bytes(columns.types[name], as_bytes) else "''"
    yield Rule("url_missing", f"coalesce({columns.sql(name)} <> {empty}, false)", say("the row has no url"), (name,))


def _language_rules(config: MetadataFilterConfig, columns: FileColumns, as_bytes: bool) -> Iterator[Rule]:
    name = columns.names["language"]
    text = columns.text_sql(name, as_bytes)
    if config.missing == "reject":
        yield Rule("language_missing", f"({text} IS NOT NULL)", say("language is missing (null)"), (name,))
    among = ", ".join(text_literal(language) for language in config.languages)
    sentence = say("language ", "language", f" is not among {', '.join(config.languages)}")
    yield Rule("other_language", f"coalesce({text} IN ({among}), true)", sentence, (name,))
