"""Image formats that edited images are written in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

OUTPUT_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffix of the output -> Pillow's name of the format."""


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 in the format that the suffix of `path` names, whole or not at all; PNG keeps every value.

    Raises:
        OutputError: it cannot be written.
    """
    from PIL import Image

    from schemas.atomic import write_bytes

    save_as = OUTPUT_FORMATS[path.suffix.lower()]
    encoded = io.BytesIO()
    options = {"quality": 95} if save_as != "PNG" else {}
    Image.fromarray(image).save(encoded, format=save_as, **options)
    write_bytes(path, encoded.getvalue())
