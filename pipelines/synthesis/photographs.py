"""The photographs that come inside scikit-image and scikit-learn: real, freely licensed, and never downloaded."""

from __future__ import annotations

import importlib.util
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from schemas.errors import InputError
from schemas.images import decode_image

_FOLDERS = {"scikit-image": ("skimage", "data"), "scikit-learn": ("sklearn", "datasets/images")}


@dataclass(frozen=True)
class Subject:
    """Something in a photograph that an instruction can speak of.

    Args:
        noun: with its article: "the dahlia".
        centre: (x, y) as shares of width and height.
        radii: (x, y) half axes of an ellipse around it, as shares of width and height.
    """

    noun: str
    centre: tuple[float, float]
    radii: tuple[float, float]


@dataclass(frozen=True)
class Photograph:
    """A photograph, where it comes from, and what is in it.

    Args:
        name: short and unique: "coffee".
        noun: what it shows: "a cup of coffee".
        package: the package that it comes inside.
        file: the file's name in that package.
        licence: SPDX identifier, or "public-domain".
        attribution: who took it.
        subjects: what an edit can be about.
        pixels: (H, W, 3) uint8 sRGB.
    """

    name: str
    noun: str
    package: str
    file: str
    licence: str
    attribution: str
    subjects: tuple[Subject, ...]
    pixels: npt.NDArray[np.uint8]


_EMPTY = np.zeros((0, 0, 3), np.uint8)

_LISTED = (
    Photograph(
        "astronaut",
        "an astronaut in an orange spacesuit",
        "scikit-image",
        "astronaut.png",
        "public-domain",
        "NASA",
        (
            Subject("the helmet", (0.78, 0.85), (0.20, 0.15)),
            Subject("the fuel tank of the space shuttle", (0.81, 0.29), (0.09, 0.28)),
            Subject("the mission patch", (0.335, 0.755), (0.075, 0.075)),
            Subject("the spacesuit", (0.36, 0.70), (0.32, 0.32)),
        ),
        _EMPTY,
    ),
    Photograph(
        "camera",
        "a photographer with a camera on a tripod",
        "scikit-image",
        "camera.png",
        "CC0-1.0",
        "Lav Varshney",
        (Subject("the camera", (0.56, 0.33), (0.09, 0.08)), Subject("the coat", (0.21, 0.57), (0.12, 0.19))),
        _EMPTY,
    ),
    Photograph(
        "chelsea",
        "a tabby cat",
        "scikit-image",
        "chelsea.png",
        "CC0-1.0",
        "Stefan van der Walt",
        (
            Subject("the cat's left eye", (0.375, 0.385), (0.095, 0.14)),
            Subject("the cat's right eye", (0.705, 0.455), (0.065, 0.12)),
            Subject("the cat's nose", (0.575, 0.82), (0.085, 0.10)),
            Subject("the cat", (0.42, 0.50), (0.40, 0.48)),
        ),
        _EMPTY,
    ),
    Photograph(
        "coffee",
        "a cup of coffee",
        "scikit-image",
        "coffee.png",
        "CC0-1.0",
        "Rachel Michetti",
        (
            Subject("the cup", (0.49, 0.36), (0.21, 0.34)),
            Subject("the coffee", (0.47, 0.365), (0.145, 0.17)),
            Subject("the spoon", (0.60, 0.70), (0.08, 0.14)),
            Subject("the saucer", (0.465, 0.58), (0.34, 0.42)),
        ),
        _EMPTY,
    ),
    Photograph(
        "hubble",
        "distant galaxies",
        "scikit-image",
        "hubble_deep_field.jpg",
        "public-domain",
        "NASA and ESA",
        (),
        _EMPTY,
    ),
    Photograph(
        "retina",
        "the retina of a human eye",
        "scikit-image",
        "retina.jpg",
        "CC0-1.0",
        "Mikael Haeggstroem",
        (Subject("the optic disc", (0.175, 0.44), (0.07, 0.09)), Subject("the macula", (0.49, 0.50), (0.09, 0.09))),
        _EMPTY,
    ),
    Photograph(
        "rocket",
        "a rocket on its launch pad at dusk",
        "scikit-image",
        "rocket.jpg",
        "public-domain",
        "SpaceX",
        (
            Subject("the rocket", (0.505, 0.635), (0.045, 0.36)),
            Subject("the sky above the pad", (0.74, 0.30), (0.16, 0.22)),
        ),
        _EMPTY,
    ),
    Photograph(
        "china",
        "a pagoda above a lake",
        "scikit-learn",
        "china.jpg",
        "CC-BY-2.0",
        "danielbuechele",
        (
            Subject("the pagoda", (0.325, 0.47), (0.20, 0.40)),
            Subject("the roof", (0.325, 0.255), (0.13, 0.085)),
            Subject("the lake", (0.70, 0.58), (0.14, 0.09)),
        ),
        _EMPTY,
    ),
    Photograph(
        "flower",
        "an orange dahlia",
        "scikit-learn",
        "flower.jpg",
        "CC-BY-2.0",
        "vultilion",
        (
            Subject("the dahlia", (0.478, 0.52), (0.225, 0.33)),
            Subject("the bud", (0.57, 0.94), (0.14, 0.08)),
        ),
        _EMPTY,
    ),
)


def load_photographs() -> list[Photograph]:
    """Every photograph, in alphabetical order of packages and names, with its original pixels.

    Raises:
        InputError: a package is not installed.
    """
    return [
        replace(listed, pixels=decode_image((_folder(listed.package) / listed.file).read_bytes())) for listed in _LISTED
    ]


def scaled(photograph: Photograph, longest_side: int) -> Photograph:
    """`photograph` resized (Lanczos) so that its longer side has `longest_side` pixels."""
    height, width = photograph.pixels.shape[:2]
    factor = longest_side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    resized = Image.fromarray(photograph.pixels).resize(size, Image.Resampling.LANCZOS)
    return replace(photograph, pixels=np.array(resized))


def encode_jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    """(H, W, 3) uint8 as a JPEG of `quality` 1..95, with 4:2:0 chroma, as public editing sets are saved."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality, subsampling="4:2:0")
    return stream.getvalue()


def _folder(package: str) -> Path:
    module, folder = _FOLDERS[package]
    # Found without importing: the packages are heavy, and only their files are wanted.
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "photographs",
            package,
            "is not installed, and the photographs come inside it",
            "In the clone, run pip install '.[demo]'.",
        )
    return Path(found.submodule_search_locations[0]) / folder
