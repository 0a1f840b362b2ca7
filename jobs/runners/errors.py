"""How a typed error travels from a worker to the user unchanged: as bytes beside the work, not as a Ray traceback."""

from __future__ import annotations

import pickle

from schemas.errors import EditmillError


def pack_error(error: EditmillError) -> bytes:
    """The error as bytes; a value that cannot be pickled travels as its text."""
    try:
        return pickle.dumps(error)
    except (pickle.PicklingError, TypeError, AttributeError):
        return pickle.dumps(type(error)(error.field, str(error.value), error.rule, error.mend))


def raise_error(data: bytes) -> None:
    """Raise the error that `pack_error` made bytes of; does nothing for empty bytes.

    Only for bytes that came from one of our own workers.
    """
    if data:
        error: EditmillError = pickle.loads(data)
        raise error
