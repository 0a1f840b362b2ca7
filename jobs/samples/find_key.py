"""A key as a person types it: whole, or its beginning."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from schemas.errors import InputError

_SHOWN = 4


def find_key(keys: Sequence[str], wanted: str, where: str) -> int:
    """Position of the key that is `wanted`, or of the only one that begins with it.

    Args:
        where: what holds the keys, for the error.

    Raises:
        InputError: there is none, or several begin so.
    """
    beginning = [position for position, key in enumerate(keys) if key.startswith(wanted)]
    exact = [position for position in beginning if keys[position] == wanted]
    if exact:
        return exact[0]
    if len(beginning) == 1:
        return beginning[0]
    if beginning:
        some = ", ".join(keys[position] for position in beginning[:_SHOWN])
        more = f" and {len(beginning) - _SHOWN} more" if len(beginning) > _SHOWN else ""
        raise InputError("KEY", wanted, f"is how {len(beginning)} keys of {where} begin", f"Type more of {some}{more}.")
    near = _near(sorted(keys), wanted)
    mend = f"Near it: {', '.join(near)}." if near else f"The first are: {', '.join(keys[:_SHOWN])}."
    raise InputError("KEY", wanted, f"is no key of {where}", mend)


def _near(ordered: Sequence[str], wanted: str) -> list[str]:
    """The neighbours in alphabetical order, which share the longest beginning, where they share one."""
    place = bisect_left(ordered, wanted)
    neighbours = ordered[max(0, place - _SHOWN // 2) : place + _SHOWN // 2]
    return [key for key in neighbours if key[:1] == wanted[:1]]
