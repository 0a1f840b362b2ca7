"""Libraries that not every installation has."""

from __future__ import annotations

from importlib.util import find_spec

from schemas.errors import InputError

EXTRAS = {"peft": "train", "bitsandbytes": "low-memory"}
"""Import name -> the extra of this distribution that brings it."""


def require(name: str) -> None:
    """Make sure that an optional library is there.

    Raises:
        InputError: it is not; names the extra that brings it.
    """
    if find_spec(name) is None:
        raise InputError("installation", name, "is missing", f'In the clone, run pip install ".[{EXTRAS[name]}]".')
