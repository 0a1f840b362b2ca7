"""Libraries that not every installation has."""

from __future__ import annotations

from importlib.util import find_spec

from schemas.errors import InputError

EXTRAS = {
    "bitsandbytes": "low-memory",
    "diffusers": "train",
    "peft": "train",
    "torch": "train",
    "transformers": "train",
}
"""Import name -> the extra of this distribution that brings it."""


def require(*names: str) -> None:
    """Make sure that optional libraries are there.

    Raises:
        InputError: one is not; names the extra that brings it.
    """
    for name in names:
        if find_spec(name) is None:
            raise InputError("installation", name, "is missing", f'In the clone, run pip install ".[{EXTRAS[name]}]".')
