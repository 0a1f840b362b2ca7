"""From the text of a `where` expression to its tree: a parser of its own, so that nothing but what stands here can be
asked of the engine.

    or      := and {OR and}                         compare := sum [(= | <> | < | <= | > | >=) sum
    and     := not {AND not}                                 | IS [NOT] NULL | [NOT] IN (sum, ...)
    not     := NOT not | compare                             | [NOT] BETWEEN sum AND sum | [NOT] [I]LIKE 'pattern']
    sum     := product {(+ | -) product}            product := sign {(* | / | %) sign}
    sign    := [- | +] sign | atom                  atom    := number | 'text' | TRUE | FALSE | name | name(or, ...)
                                                             | (or)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from pipelines.metadata_filter.where_tokens import Token, fail, tokens_of

DEEPEST = 50
"""Parentheses and signs may be nested so deep."""
LONGEST = 400
"""An expression may have so many words."""
COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Node:
    """A node of the tree.

    Args:
        kind: "number", "text", "boolean", "column", "function", or an operator: "or", "and", "not", one of
            `COMPARISONS`, "is null", "in", "between", "like", "ilike", "+", "-", "*", "/", "%", "negative".
        parts: what it works on, in order.
        value: of a literal; the name of a column or function (functions in lower case).
        place: in the expression, for errors.
    """

    kind: str
    parts: tuple[Node, ...]
    value: str
    place: int


def parse_where(expression: str) -> Node:
    """The tree of `expression`.

    Raises:
        ValueError: it is no expression; the message points at the place.
    """
    return _Parser(expression).whole()


class _Parser:
    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = list(tokens_of(expression))
        self.at = 0
        self.depth = 0
        if len(self.tokens) > LONGEST:
            fail(expression, self.tokens[LONGEST].place, f"has more than {LONGEST} words")

    @property
    def now(self) -> Token:
        return self.tokens[self.at]

    def whole(self) -> Node:
        tree = self.either()
        if self.now.kind != "end":
            self.refuse("expected AND, OR or the end")
        return tree

    def refuse(self, rule: str) -> NoReturn:
        found = f"'{self.now.text}'" if self.now.kind != "end" else "the end"
        fail(self.expression, self.now.place, f"{rule}, found {found}")

    def take(self, kind: str, *texts: str) -> Token | None:
        """The next word, if it is one of these."""
        token = self.now
        if token.kind != kind or token.text not in texts:
            return None
        self.at += 1
        return token

    def must(self, kind: str, text: str) -> None:
        if self.take(kind, text) is None:
            self.refuse(f"expected {text.upper()}")

    def either(self) -> Node:
        return self.chain(("keyword", ("or",)), self.both)

    def both(self) -> Node:
        return self.chain(("keyword", ("and",)), self.negation)

    def chain(self, wanted: tuple[str, tuple[str, ...]], inner: Callable[[], Node]) -> Node:
        left = inner()
        while token := self.take(wanted[0], *wanted[1]):
            left = Node(token.text, (left, inner()), "", token.place)
        return left

    def negation(self) -> Node:
        if token := self.take("keyword", "not"):
            return self.deeper(lambda: Node("not", (self.negation(),), "", token.place))
        return self.comparison()

    def deeper(self, inner: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            fail(self.expression, self.now.place, f"nested more than {DEEPEST} deep")
        node = inner()
        self.depth -= 1
        return node

    def comparison(self) -> Node:
        left = self.sum()
        if token := self.take("sign", *COMPARISONS):
            return Node(token.text, (left, self.sum()), "", token.place)
        if token := self.take("keyword", "is"):
            negated = self.take("keyword", "not")
            self.must("keyword", "null")
            node = Node("is null", (left,), "", token.place)
            return Node("not", (node,), "", token.place) if negated else node
        negated = self.take("keyword", "not")
        if token := self.take("keyword", "in", "between", "like", "ilike"):
            node = Node(token.text, (left, *self.operands(token.text)), "", token.place)
            return Node("not", (node,), "", token.place) if negated else node
        if negated:
            self.refuse("expected IN, BETWEEN or LIKE after NOT")
        return left

    def operands(self, kind: str) -> tuple[Node, ...]:
        if kind == "between":
            low = self.sum()
            self.must("keyword", "and")
            return low, self.sum()
        if kind == "in":
            self.must("sign", "(")
            return self.listed(self.sum)
        if self.now.kind != "text":
            self.refuse("expected a pattern in single quotes")
        return (self.atom(),)

    def listed(self, inner: Callable[[], Node]) -> tuple[Node, ...]:
        found = [inner()]
        while self.take("sign", ","):
            found.append(inner())
        self.must("sign", ")")
        return tuple(found)

    def sum(self) -> Node:
        return self.chain(("sign", ("+", "-")), self.product)

    def product(self) -> Node:
        return self.chain(("sign", ("*", "/", "%")), self.signed)

    def signed(self) -> Node:
        if token := self.take("sign", "-", "+"):
            inner = self.deeper(self.signed)
            return Node("negative", (inner,), "", token.place) if token.text == "-" else inner
        return self.atom()

    def atom(self) -> Node:
        token = self.now
        if token.kind in ("number", "text"):
            self.at += 1
            return Node(token.kind, (), token.text, token.place)
        if self.take("keyword", "true", "false"):
            return Node("boolean", (), token.text, token.place)
        if self.take("sign", "("):
            inner = self.deeper(self.either)
            self.must("sign", ")")
            return inner
        if token.kind != "name":
            self.refuse("expected a column, a number or a text in single quotes")
        self.at += 1
        if self.take("sign", "("):
            call = Node("function", (), token.text.lower(), token.place)
            return self.deeper(lambda: replace(call, parts=self.listed(self.either)))
        return Node("column", (), token.text, token.place)
