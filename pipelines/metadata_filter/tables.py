"""From the rows that a query returns to records, keys and outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.metadata_filter.columns import as_record_column
from pipelines.metadata_filter.engine import query_table
from pipelines.metadata_filter.number_rules import Rule
from schemas.keys import image_key
from schemas.outcomes import OUTCOME, REJECTED
from schemas.records import IMAGE_RECORD

CODE = "failed rule"
"""Column of a query's result: the place of the first rule that a row fails in the list of rules, or -1."""
_IMAGE = "'image'::BLOB"


def code_sql(rules: list[Rule], first: int = 0) -> str:
    """`CODE`, where the rules before `first` are known to pass."""
    cases = " ".join(f"WHEN NOT {rule.passes} THEN {place}" for place, rule in enumerate(rules) if place >= first)
    return f"CASE {cases} ELSE -1 END" if cases else "-1"


def as_records(table: pa.Table) -> pa.Table:
    """Rows with `ImageRecord` columns under a file's types as `ImageRecord` rows, with their keys."""
    columns = {name: as_record_column(name, table[name]) for name in table.column_names}
    return IMAGE_RECORD.conform(pa.table({"key": keys_of(table), **columns}))


def keys_of(table: pa.Table) -> pa.ChunkedArray:
    """The key of each row; a row without url has one from its caption alone."""
    texts = {name: table[name] for name in ("url", "caption") if name in table.column_names}
    if all(pa.types.is_string(column.type) or pa.types.is_large_string(column.type) for column in texts.values()):
        return query_table(pa.table(texts), f"{_key_sql(list(texts))} AS key")["key"]
    captions = _decoded(table["caption"]) if "caption" in texts else [None] * table.num_rows
    urls = _decoded(table["url"])
    keys = [image_key(url or "", caption) for url, caption in zip(urls, captions, strict=True)]
    return pa.chunked_array([pa.array(keys, pa.string())])


def _key_sql(names: Sequence[str]) -> str:
    """`schemas.keys.image_key` in SQL over those of the columns `url` and `caption` that there are."""
    texts = (f"encode(coalesce({name}, ''))" if name in names else "''::BLOB" for name in ("url", "caption"))
    return f"left(sha256({' || '.join(_part(blob) for blob in (_IMAGE, *texts))}), 32)"


def _part(blob: str) -> str:
    """A part of what is hashed: its length as eight bytes, the highest first, and itself."""
    return f"unhex(format('{{:016x}}', octet_length({blob}))) || {blob}"


def split_unreadable(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows whose texts are UTF-8, and the others: Parquet does not promise that a text column holds text."""
    readable: list[bool] | None = None
    for name in table.column_names:
        column = table[name]
        if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
            continue
        try:
            as_record_column(name, column).validate(full=True)
        except pa.ArrowInvalid:
            readable = readable or [True] * table.num_rows
            for position, value in enumerate(column.to_pylist()):
                readable[position] &= value is None or _is_utf8(value)
    if readable is None:
        return table, table.slice(0, 0)
    mask = pa.array(readable)
    return table.filter(mask), table.filter(pc.invert(mask))


def failing_outcomes(step: str, version: int, failing: pa.Table, rules: list[Rule]) -> pa.Table:
    """An outcome for each row of `failing`, in its order, with the rule in its column `CODE`."""
    codes = failing[CODE]
    places, reasons, sentences = [], [], []
    for place, rule in enumerate(rules):
        fails = pc.equal(codes, place)
        rows = pc.indices_nonzero(fails)
        if len(rows):
            places.append(rows)
            reasons.append(pa.repeat(rule.reason, len(rows)))
            sentences.append(rule.sentences(failing.filter(fails)))
    if not places:
        return OUTCOME.arrow.empty_table()
    # Rows were gathered rule by rule; this brings them back into input order.
    order = pc.sort_indices(pa.concat_arrays(places))
    reason = pa.concat_arrays(reasons).take(order)
    sentence = pa.chunked_array([chunk for part in sentences for chunk in part.chunks], pa.string()).take(order)
    return _outcomes(step, version, keys_of(failing), reason, sentence)


def unreadable_outcomes(step: str, version: int, table: pa.Table) -> pa.Table:
    """An outcome for each row of which a text is not UTF-8."""
    sentence = "a text column of the row is not UTF-8"
    rows = table.num_rows
    return _outcomes(step, version, keys_of(table), pa.repeat("text_not_utf8", rows), pa.repeat(sentence, rows))


def _outcomes(
    step: str, version: int, keys: pa.ChunkedArray, reason: pa.Array, sentence: pa.Array | pa.ChunkedArray
) -> pa.Table:
    rows = len(keys)
    constants = [pa.repeat(value, rows) for value in (step, pa.scalar(version, pa.int32()), REJECTED)]
    columns = [keys, *constants, reason, sentence]
    nulls = [pa.nulls(rows, pa.string())] * (len(OUTCOME.fields) - len(columns))
    return pa.Table.from_arrays([*columns, *nulls], schema=OUTCOME.arrow)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [None if value is None else value.decode(errors="replace") for value in column.to_pylist()]
    texts: list[str | None] = as_record_column("caption", column).to_pylist()
    return texts
