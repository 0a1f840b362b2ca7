"""A `where` tree bound to the columns of a file: every part has a type, and becomes SQL over those columns.

Logic is SQL's, with three values. NaN counts as null. Numbers are doubles, so that width * height cannot overflow; but
where a float32 column stands alone against a literal, the literal is rounded to float32, as it is for the bounds.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from pipelines.metadata_filter.sql import float_literal, text_literal
from pipelines.metadata_filter.where_parse import COMPARISONS, Node
from pipelines.metadata_filter.where_tokens import fail

Type = Literal["number", "text", "boolean"]

FUNCTIONS: dict[str, tuple[int, int, Type, Type, str]] = {
    "abs": (1, 1, "number", "number", "abs({0})"),
    "ceil": (1, 1, "number", "number", "ceil({0})"),
    "contains": (2, 2, "text", "boolean", "contains({0}, {1})"),
    "ends_with": (2, 2, "text", "boolean", "ends_with({0}, {1})"),
    "floor": (1, 1, "number", "number", "floor({0})"),
    "greatest": (2, 8, "number", "number", "greatest"),
    "least": (2, 8, "number", "number", "least"),
    "length": (1, 1, "text", "number", "length({0})::DOUBLE"),
    "lower": (1, 1, "text", "text", "lower({0})"),
    "starts_with": (2, 2, "text", "boolean", "starts_with({0}, {1})"),
    "trim": (1, 1, "text", "text", "trim({0})"),
    "upper": (1, 1, "text", "text", "upper({0})"),
}
"""Name -> least and most arguments, their type, the result's type, and the SQL; `greatest` and `least` are null where
an argument is."""


@dataclass(frozen=True)
class BoundColumn:
    """A column of the file as an expression may use it: its type, and SQL that is null where the value is missing.

    Args:
        single: it is float32, and literals beside it are rounded to that.
    """

    type: Type
    sql: str
    single: bool = False


@dataclass(frozen=True)
class BoundWhere:
    """An expression over one file: SQL that is true, false or null, and the columns that it uses."""

    sql: str
    columns: tuple[str, ...]


def bind_where(
    expression: str, tree: Node, find: Callable[[str], BoundColumn | None], known: Collection[str]
) -> BoundWhere:
    """Check types and names, and write the SQL.

    Args:
        find: from a name in the expression to the file's column, or None where the file has no such.
        known: names to suggest.

    Raises:
        ValueError: an unknown column or function, or types that do not go together; the message points at the place.
    """
    binder = _Binder(expression, find, known)
    found, sql = binder.bind(tree)
    if found != "boolean":
        fail(expression, tree.place, f"the whole is a {found}, not a condition; compare it with something")
    return BoundWhere(sql, tuple(binder.used))


class _Binder:
    def __init__(self, expression: str, find: Callable[[str], BoundColumn | None], known: Collection[str]) -> None:
        self.expression, self.find, self.known = expression, find, known
        self.used: dict[str, BoundColumn] = {}

    def bind(self, node: Node) -> tuple[Type, str]:
        kind = node.kind
        if kind == "number":
            return "number", float_literal(float(node.value))
        if kind == "text":
            return "text", text_literal(node.value)
        if kind == "boolean":
            return "boolean", node.value
        if kind == "column":
            column = self.column(node)
            return column.type, f"{column.sql}::DOUBLE" if column.single else column.sql
        if kind == "function":
            return self.function(node)
        if kind in ("and", "or", "not"):
            parts = [self.of("boolean", part, node) for part in node.parts]
            return "boolean", f"(NOT {parts[0]})" if kind == "not" else f"({f' {kind.upper()} '.join(parts)})"
        if kind == "is null":
            return "boolean", f"({self.bind(node.parts[0])[1]} IS NULL)"
        if kind in ("like", "ilike"):
            value, pattern = (self.of("text", part, node) for part in node.parts)
            return "boolean", f"({value} {kind.upper()} {pattern})"
        if kind in (*COMPARISONS, "in", "between"):
            return "boolean", self.comparison(node)
        return "number", self.arithmetic(node)

    def of(self, wanted: Type, node: Node, parent: Node) -> str:
        found, sql = self.bind(node)
        if found != wanted:
            name = parent.value if parent.kind == "function" else parent.kind.upper()
            fail(self.expression, node.place, f"{name} needs a {wanted}, this is a {found}")
        return sql

    def column(self, node: Node) -> BoundColumn:
        column = self.find(node.value)
        if column is None:
            close = difflib.get_close_matches(node.value, self.known, n=1)
            mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(self.known))}"
            fail(self.expression, node.place, f"there is no column '{node.value}'; {mend}")
        self.used[node.value] = column
        return column

    def function(self, node: Node) -> tuple[Type, str]:
        if node.value not in FUNCTIONS:
            fail(self.expression, node.place, f"there is no function '{node.value}'; there are {', '.join(FUNCTIONS)}")
        least, most, argument, result, template = FUNCTIONS[node.value]
        if not least <= len(node.parts) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            fail(self.expression, node.place, f"{node.value} takes {count} arguments, here are {len(node.parts)}")
        parts = [self.of(argument, part, node) for part in node.parts]
        if template in ("greatest", "least"):
            missing = " OR ".join(f"{part} IS NULL" for part in parts)
            return result, f"(CASE WHEN {missing} THEN NULL ELSE {template}({', '.join(parts)}) END)"
        return result, template.format(*parts)

    def comparison(self, node: Node) -> str:
        types: list[Type] = []
        for part in node.parts:
            found = self.bind(part)[0]
            if types and found != types[0]:
                fail(self.expression, part.place, f"a {types[0]} is compared with a {found}")
            types.append(found)
        if types[0] == "boolean" and node.kind not in ("=", "<>", "in"):
            fail(self.expression, node.place, f"{node.kind.upper()} does not compare conditions")
        first, *others = self.side_by_side(node.parts)
        if node.kind == "in":
            return f"({first} IN ({', '.join(others)}))"
        if node.kind == "between":
            return f"({first} BETWEEN {others[0]} AND {others[1]})"
        return f"({first} {node.kind} {others[0]})"

    def side_by_side(self, parts: tuple[Node, ...]) -> list[str]:
        """SQL of operands that are compared; literals beside float32 columns alone are rounded to float32."""
        literals = [literal_value(part) for part in parts]
        columns = [self.column(part) if part.kind == "column" else None for part in parts]
        single = all(
            literal is not None or (column is not None and column.single)
            for literal, column in zip(literals, columns, strict=True)
        )
        if single and any(column is not None for column in columns):
            return [
                column.sql if column is not None else float_literal(literal or 0.0, "FLOAT")
                for literal, column in zip(literals, columns, strict=True)
            ]
        return [self.bind(part)[1] for part in parts]

    def arithmetic(self, node: Node) -> str:
        parts = [self.of("number", part, node) for part in node.parts]
        if node.kind == "negative":
            return f"(-{parts[0]})"
        if node.kind in "/%":
            return f"({parts[0]} {node.kind} nullif({parts[1]}, 0))"
        return f"({parts[0]} {node.kind} {parts[1]})"


def literal_value(node: Node) -> float | None:
    """The number that a node is, sign included, or None where it is none."""
    if node.kind == "number":
        return float(node.value)
    if node.kind == "negative":
        inner = literal_value(node.parts[0])
        return None if inner is None else -inner
    return None
