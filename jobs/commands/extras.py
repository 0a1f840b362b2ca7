"""Libraries that commands about the model need, and a base installation lacks."""

from __future__ import annotations

import logging
from importlib.util import find_spec


def require_model_libraries() -> None:
    """Make sure that the extra `train` is installed, and keep its libraries from talking while they are imported.

    Raises:
        InputError: it is not.
    """
    from schemas.errors import InputError

    missing = [name for name in ("torch", "transformers", "diffusers") if find_spec(name) is None]
    if missing:
        raise InputError(
            "installation", missing, "lacks what the model needs", 'In the clone, run pip install ".[train]".'
        )
    # diffusers imports it where it is installed, and on a CPU it then misses a kernel that nobody asked for.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
