"""The pictures of one card as a page carries them: encoded once, however often they are shown."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from pipelines.preview.picture import Picture, encode_jpeg, encode_png

_QUALITY = 85
_FLAT_COLOURS = 16
"""A picture of at most so many colours (a mask, a step) is a PNG with a palette: smaller than a JPEG, and exact."""


class PictureShelf:
    """Data URIs of a card's pictures; the same picture or the same file gets the same place."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self._places: dict[bytes, int] = {}
        self._known: dict[int, tuple[Picture, int]] = {}

    def add(self, picture: Picture, is_grid: bool = False) -> int:
        """The place of `picture` in `sources`. A grid, and a picture of few colours, loses nothing."""
        if id(picture) in self._known:
            return self._known[id(picture)][1]
        flat = _palette(picture)
        if flat is not None:
            place = self.add_file(flat, "png")
        else:
            file = (encode_png(picture), "png") if is_grid else (encode_jpeg(picture, _QUALITY), "jpeg")
            place = self.add_file(*file)
        # Held, so that its id is not given to another picture meanwhile.
        self._known[id(picture)] = (picture, place)
        return place

    def add_file(self, data: bytes, kind: str) -> int:
        """The place of an image file in `sources`; `kind` is the second half of its media type."""
        if data not in self._places:
            self._places[data] = len(self.sources)
            self.sources.append(f"data:image/{kind};base64,{base64.standard_b64encode(data).decode()}")
        return self._places[data]


def _palette(picture: Picture) -> bytes | None:
    """`picture` as a PNG with a palette where it has few colours, else None."""
    packed = picture.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    # A photograph shows more colours than that in any few of its rows, so most need no full count.
    if np.unique(packed[:: max(1, len(packed) // 8)]).size > _FLAT_COLOURS:
        return None
    colours, zones = np.unique(packed, return_inverse=True)
    if colours.size > _FLAT_COLOURS:
        return None
    image = Image.fromarray(zones.reshape(packed.shape).astype(np.uint8), "L").convert("P")
    image.putpalette([colour >> shift & 255 for colour in colours.tolist() for shift in (16, 8, 0)])
    stream = io.BytesIO()
    image.save(stream, "PNG", bits=1 if colours.size <= 2 else 2 if colours.size <= 4 else 4, optimize=True)
    return stream.getvalue()
