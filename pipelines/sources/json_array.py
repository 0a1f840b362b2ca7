"""JSON files that are one long list, cut into ranges of whole elements that are read again without what stands before.

The list is never in memory as a whole: elements are found one after the other in a window of the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.errors import InputError

_WINDOW = 2**20
LARGEST_ELEMENT = 64 * 2**20
"""Bytes of an element above which the file is taken for damaged."""
_SPACE = re.compile(r"[ \t\r\n]*")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class ElementRange:
    """Consecutive elements of a list.

    Args:
        start, stop: bytes of the file before the first element's beginning and the last one's end.
        first: position of the first element in the list.
        digest: hexadecimal SHA-256 of the elements' bytes.
    """

    start: int
    stop: int
    first: int
    digest: str


def element_ranges(path: Path, count: int) -> Iterator[ElementRange]:
    """The list in a file as ranges of at most `count` elements.

    Raises:
        InputError: the file cannot be read, or holds no JSON list.
    """
    digest, start, held, number = hashlib.sha256(), 0, 0, 0
    stop = 0
    for number, (begin, text) in enumerate(_elements(path)):
        if held == count:
            yield ElementRange(start, stop, number - held, digest.hexdigest())
            digest, held = hashlib.sha256(), 0
        if not held:
            start = begin
        digest.update(text)
        stop, held = begin + len(text), held + 1
    if held:
        yield ElementRange(start, stop, number + 1 - held, digest.hexdigest())


def read_elements(path: Path, start: int, stop: int) -> list[object]:
    """The elements in the bytes [start, stop) of a file, as `element_ranges` gave them; bytes that are no UTF-8 become
    single surrogates.

    Raises:
        InputError: the file cannot be read any more, or was changed.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            text = stream.read(stop - start).decode("utf-8", "surrogateescape")
            values = json.loads(f"[{text}]")
    except OSError as error:
        raise InputError("path", str(path), f"cannot be read ({error})", "Restore the file.") from error
    except (ValueError, RecursionError) as error:
        raise InputError("path", str(path), f"was changed ({error})", "Restore it.") from error
    elements: list[object] = values
    return elements


def _elements(path: Path) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) of each element. Bytes are looked at as Latin-1, where each is a character: structure is ASCII."""
    decoder = json.JSONDecoder()
    try:
        with path.open("rb") as stream:
            base = len(_BOM) if stream.read(len(_BOM)) == _BOM else 0
            stream.seek(base)
            text, at, ended = "", 0, False
            state = "["
            while True:
                at = _after_space(text, at)
                if at >= len(text) and not ended:
                    base, text, at, ended = base + at, _read(stream), 0, False
                    ended = not text
                    continue
                if at >= len(text):
                    raise _no_list(path, base + at, "it ends before the list does")
                character = text[at]
                if state == "[":
                    if character != "[":
                        raise _no_list(path, base + at, "it does not begin with '['")
                    at, state = at + 1, "first"
                elif character == "]" and state in ("first", "after"):
                    return
                elif state == "after":
                    if character != ",":
                        raise _no_list(path, base + at, "an element is not followed by ',' or ']'")
                    at, state = at + 1, "element"
                else:
                    end = _end_of_element(decoder, text, at)
                    # A number at the window's end may go on behind it.
                    while (end is None or end == len(text)) and not ended:
                        if len(text) - at > LARGEST_ELEMENT:
                            raise _no_list(path, base + at, f"an element has more than {LARGEST_ELEMENT} bytes")
                        more = _read(stream, max(_WINDOW, len(text) - at))
                        base, text, at, ended = base + at, text[at:] + more, 0, not more
                        end = _end_of_element(decoder, text, at)
                    if end is None:
                        raise _no_list(path, base + at, "an element is no JSON")
                    yield base + at, text[at:end].encode("latin-1")
                    at, state = end, "after"
    except OSError as error:
        raise InputError("path", str(path), f"cannot be read ({error})", "Check the path.") from error


def _read(stream: BinaryIO, size: int = _WINDOW) -> str:
    data = stream.read(size)
    return data.decode("latin-1")


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _end_of_element(decoder: json.JSONDecoder, text: str, at: int) -> int | None:
    try:
        return decoder.raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        return None


def _no_list(path: Path, place: int, why: str) -> InputError:
    return InputError(str(path), f"byte {place}", f"is no whole JSON list: {why}", "Download the file again.")
