"""Reading a body that may be endless, larger than it says, or a decompression bomb."""

from __future__ import annotations

import zlib

import aiohttp

from pipelines.fetch.faults import FetchFault, passing_fault

_GZIP, _ZLIB, _RAW = 31, 15, -15
_ENCODINGS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_DEFLATE_METHOD = 0x08


class ByteBudget:
    """The bytes that a partition's images may hold in memory, arrived and arriving together.

    Args:
        limit: bytes, inclusive.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> None:
        """Count `count` more bytes in.

        Raises:
            FetchFault: `batch_full`; nothing is counted then.
        """
        if self.used + count > self.limit:
            raise FetchFault(
                "batch_full",
                f"the partition's images hold {self.used} bytes; {self.limit} are allowed (max_batch_bytes)",
            )
        self.used += count

    def give_back(self, count: int) -> None:
        """`count` bytes were let go of."""
        self.used -= count


async def read_body(response: aiohttp.ClientResponse, max_bytes: int, budget: ByteBudget) -> bytes:
    """The body, without its content encoding. What it holds stays counted in `budget`; after an error nothing does.

    Args:
        response: of a session that does not decompress by itself.
        max_bytes: the most bytes, inclusive, before and after decoding; an announced length is believed only where it
            is too large.

    Raises:
        FetchFault: `image_too_many_bytes`, `body_truncated`, `content_encoding`, `batch_full`.
        aiohttp.ClientError, TimeoutError: the connection fails, or ends before the announced length.
    """
    announced = response.content_length
    if announced is not None and announced > max_bytes:
        raise FetchFault("image_too_many_bytes", f"the server announces {announced} bytes; {max_bytes} are allowed")
    decoder = _decoder(response.headers.get("Content-Encoding", ""))
    data = bytearray()
    raw = 0
    try:
        async for chunk in response.content.iter_any():
            raw += len(chunk)
            # One byte more than may be is enough to know.
            piece = chunk if decoder is None else decoder.feed(chunk, max_bytes + 1 - len(data))
            if raw > max_bytes or len(data) + len(piece) > max_bytes:
                decoded = "" if decoder is None else f" once decompressed ({raw} as sent)"
                raise FetchFault("image_too_many_bytes", f"more than {max_bytes} bytes come{decoded}")
            budget.take(len(piece))
            data += piece
        if decoder is not None:
            decoder.check_whole()
    except BaseException:
        budget.give_back(len(data))
        raise
    return bytes(data)


class _Decoder:
    """gzip or deflate, bounded."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._inflate = None if window == _ZLIB else zlib.decompressobj(window)

    def feed(self, chunk: bytes, most: int) -> bytes:
        """At most `most` decoded bytes."""
        if self._inflate is None:
            # "deflate" means zlib's format, but many servers send the bare stream.
            wrapped = chunk[:1] and chunk[0] & 0x0F == _DEFLATE_METHOD
            self._inflate = zlib.decompressobj(_ZLIB if wrapped else _RAW)
        try:
            return self._inflate.decompress(chunk, most)
        except zlib.error as error:
            raise FetchFault("content_encoding", f"the compressed body cannot be decoded ({error})") from error

    def check_whole(self) -> None:
        """Check that the compressed stream came to its end."""
        if self._inflate is None or not self._inflate.eof:
            raise passing_fault("body_truncated", "the compressed body ends before it is complete")


def _decoder(header: str) -> _Decoder | None:
    encoding = header.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in _ENCODINGS:
        raise FetchFault("content_encoding", f"the body is encoded as '{encoding[:40]}', which was not asked for")
    return _Decoder(_ENCODINGS[encoding])
