"""One sample out of a shard: read where the index says, and cut into its members.

A sample's bytes are a tar by themselves. Its headers are read here, since `tarfile` parses twenty fields of each into
an object, which shows beside the decoding of a small picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import RowRejected
from schemas.layout import reference_member
from schemas.records import IMAGE_RECORD

_BLOCK = 512
_REGULAR = (b"0", b"\0")


@dataclass(frozen=True)
class EncodedSample:
    """The members of one sample as they stand in the shard.

    Args:
        references: encoded images; none for an image with a caption.
        target: encoded image.
        mask: encoded image, or None for an image with a caption.
        instruction: the edit in words, or the caption.
        mask_status: see `schemas.masks.MaskStatus`; None for an image with a caption.
    """

    references: list[bytes]
    target: bytes
    mask: bytes | None
    instruction: str
    mask_status: str | None


def read_sample(path: Path, offset: int, size: int) -> EncodedSample:
    """One sample out of a shard.

    Raises:
        RowRejected: `shard_unreadable`, `sample_truncated` or `member_missing`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RowRejected("shard_unreadable", f"{path.name} at byte {offset}: {error}") from error
    if len(data) != size:
        raise RowRejected("sample_truncated", f"{path.name} ends {size - len(data)} bytes before the sample does")
    try:
        members = {name.partition(".")[2]: content for name, content in _members(data)}
    except ValueError as error:
        raise RowRejected("shard_unreadable", f"{path.name} at byte {offset}: {error}") from error
    return _parsed(members, path)


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member of a tar (POSIX.1-1988 ustar, as the shards have it).

    Raises:
        ValueError: a header is damaged, or a member is cut off.
    """
    position = 0
    while position + _BLOCK <= len(data):
        header = data[position : position + _BLOCK]
        if header[0] == 0:
            return
        # The sum of the header's bytes, its own field taken as eight spaces.
        if sum(header) - sum(header[148:156]) + 8 * 32 != int(header[148:156].rstrip(b"\0 ") or b"0", 8):
            raise ValueError("a tar header is damaged")
        size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
        first = position + _BLOCK
        if first + size > len(data):
            raise ValueError("a tar member is cut off")
        if header[156:157] in _REGULAR:
            yield header[:100].rstrip(b"\0").decode("ascii"), data[first : first + size]
        position = first + -(-size // _BLOCK) * _BLOCK


def _parsed(members: dict[str, bytes], path: Path) -> EncodedSample:
    images = {name.partition(".")[0]: data for name, data in members.items() if name not in ("json", "txt")}
    try:
        values = json.loads(members["json"])
        if values.get("schema") == IMAGE_RECORD.name:
            return _captioned(members, path)
        instruction, status = values["instruction"], values["mask_status"]
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise RowRejected("member_missing", f"{path.name}: no usable JSON member ({error!r})") from error
    references: list[bytes] = []
    while (name := reference_member(len(references))) in images:
        references.append(images[name])
    for name, present in (("reference", references), ("target", "target" in images), ("mask", "mask" in images)):
        if not present:
            raise RowRejected("member_missing", f"{path.name} holds no {name} for the sample")
    if not isinstance(instruction, str) or not isinstance(status, str):
        raise RowRejected("member_missing", f"{path.name}: instruction and mask_status must be text")
    return EncodedSample(references, images["target"], images["mask"], instruction, status)


def _captioned(members: dict[str, bytes], path: Path) -> EncodedSample:
    """An image with a caption: KEY.EXT, KEY.txt, KEY.json."""
    images = [data for name, data in members.items() if name not in ("txt", "json")]
    if not images or "txt" not in members:
        raise RowRejected("member_missing", f"{path.name}: an image without {'caption' if images else 'its image'}")
    return EncodedSample([], images[0], None, members["txt"].decode("utf-8", errors="replace"), None)
