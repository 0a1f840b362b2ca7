"""What came, looked at: is it an image, whole and of allowed size, and the one that the record means?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from pipelines.fetch.faults import FetchFault
from schemas.images import decode_image, image_extension, image_size


@dataclass(frozen=True)
class Content:
    """An image that was fetched and looked at.

    Args:
        data: the file's bytes, as sent.
        extension: of the format that they are really in.
        width, height: of the upright image, in pixels.
        sha256: hexadecimal, of `data`.
    """

    data: bytes
    extension: str
    width: int
    height: int
    sha256: str


def look_at(data: bytes, check: Literal["decode", "header"], max_pixels: int) -> Content:
    """The content in `data`; what a server called it does not count.

    Args:
        check: decode the image once, or read its header alone.
        max_pixels: inclusive; by the header, before anything is decoded.

    Raises:
        RowRejected: as `schemas.images.decode_image`.
    """
    if check == "decode":
        height, width = decode_image(data, max_pixels=max_pixels).shape[:2]
    else:
        width, height = image_size(data, max_pixels=max_pixels)
    return Content(
        data=data,
        extension=image_extension(data),
        width=width,
        height=height,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def check_declared(content: Content, sha256: str | None, md5: str | None) -> None:
    """Check the content against the hashes that a record declares, where it does.

    Raises:
        FetchFault: `image_hash_mismatch`.
    """
    if sha256 and sha256.strip().lower() != content.sha256:
        raise _mismatch("SHA-256", content.sha256, sha256)
    if md5 and md5.strip().lower() != (found := hashlib.md5(content.data, usedforsecurity=False).hexdigest()):
        raise _mismatch("MD5", found, md5)


def _mismatch(name: str, found: str, declared: str) -> FetchFault:
    return FetchFault("image_hash_mismatch", f"the {name} is {found}, the record declares {declared[:80]}")
