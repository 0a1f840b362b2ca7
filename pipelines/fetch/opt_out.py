"""What a server says, in headers, against the use of an image: `X-Robots-Tag` and `tdm-reservation`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_AGENT = re.compile(r"[a-z0-9._*-]+")
# Directives that have a value after a colon; what stands before any other colon is a crawler's name.
_WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


def refused_directive(values: Iterable[str], agent: str, disallowed: Iterable[str]) -> str | None:
    """The first directive of `X-Robots-Tag` headers that keeps `agent` out, or None.

    A directive holds for everybody, or, after `name:`, for the crawler of that name up to the next name in the same
    header (`noindex`, `editmill: noai, noindex`, `otherbot: none`).

    Args:
        values: the header's values, one for each time that it stands there.
        agent: product token; letter case does not matter.
        disallowed: the directives that keep out, in lower case.
    """
    out = frozenset(disallowed)
    for value in values:
        addressed = True
        for part in value.lower().split(","):
            name, colon, rest = part.partition(":")
            directive = part.strip()
            if colon and _AGENT.fullmatch(name.strip()) and name.strip() not in _WITH_VALUE:
                addressed = name.strip() in (agent.lower(), "*")
                directive = rest.strip()
            if addressed and directive in out:
                return directive
    return None


def reserves_tdm(values: Iterable[str]) -> bool:
    """Whether `tdm-reservation` headers reserve the rights of text and data mining (TDM Reservation Protocol: 1)."""
    return any(value.strip() == "1" for value in values)
