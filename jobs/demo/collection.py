"""A LAION-style collection over real photographs: image files, and a metadata table with LAION's column names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

if TYPE_CHECKING:
    from pipelines.synthesis.photographs import Photograph

METADATA_NAME = "metadata.parquet"
IMAGE_FOLDER = "photographs"


def colourfulness(pixels: npt.NDArray[np.uint8]) -> float:
    """The colourfulness measure M^(3) of Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003).

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        0 for a grey image; photographs lie mostly in 15..110.
    """
    red, green, blue = (pixels[..., channel].astype(np.float64) for channel in range(3))
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    deviation = np.hypot(red_green.std(), yellow_blue.std())
    return float(deviation + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


def stand_in_score(pixels: npt.NDArray[np.uint8]) -> float:
    """A stand-in for an aesthetic predictor, on its 1-10 scale: colourfulness, 10 points a score point, clipped."""
    return float(np.clip(1.0 + colourfulness(pixels) / 10.0, 1.0, 10.0))


def write_collection(folder: Path, photographs: list[Photograph]) -> None:
    """Write each photograph as a JPEG file, and the table of them as LAION writes it.

    Args:
        folder: gets `photographs/NAME.jpg` and `metadata.parquet`, whose URL column is relative to `folder`.
    """
    (folder / IMAGE_FOLDER).mkdir()
    rows: dict[str, list[object]] = {}
    for photograph in photographs:
        url = f"{IMAGE_FOLDER}/{photograph.name}.jpg"
        buffer = io.BytesIO()
        Image.fromarray(photograph.pixels).save(buffer, format="JPEG", quality=95)
        (folder / url).write_bytes(buffer.getvalue())
        height, width = photograph.pixels.shape[:2]
        row: dict[str, object] = {
            "URL": url,
            "TEXT": f"a photograph of {photograph.noun}",
            "WIDTH": width,
            "HEIGHT": height,
            "AESTHETIC_SCORE": stand_in_score(photograph.pixels),
            "SOURCE": photograph.package,
            "LICENSE": photograph.licence,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    pq.write_table(pa.table(rows), folder / METADATA_NAME)
