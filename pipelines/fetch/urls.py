"""Addresses as they stand in metadata and in redirects: read, checked, and made fit for a request."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote

from yarl import URL

from pipelines.fetch.faults import FetchFault

_LEGAL = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_HOST = re.compile(r"[A-Za-z0-9._~:%-]+")
_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_SCHEMES = ("http", "https")
_SHOWN = 200
_STEM = 80


def parse_url(text: str | None) -> URL:
    """The address to request: without credentials and fragment, non-ASCII characters encoded, all else as it was.

    Raises:
        FetchFault: `url_missing`, `url_invalid`, `url_scheme`.
    """
    if not text or not text.strip():
        raise FetchFault("url_missing", "the row has no address")
    return _checked(lambda: _read(text.strip()))


def redirect_url(base: URL, location: str) -> URL:
    """The address that a `Location` header leads to.

    Raises:
        FetchFault: `redirect_invalid`, `url_scheme`.
    """
    try:
        return _checked(lambda: base.join(_read(location.strip())))
    except FetchFault as fault:
        reason = "redirect_invalid" if fault.reason == "url_invalid" else fault.reason
        raise FetchFault(reason, f"a redirect leads to '{shown(location)}': {fault.sentence}") from fault


def origin(url: URL) -> str:
    """`scheme://host:port`: what robots.txt and manners towards a host go by."""
    return f"{url.scheme}://{(url.raw_host or '').lower().rstrip('.')}:{url.port}"


def file_name(url: URL, extension: str) -> str:
    """A name for the file at `url`, with the extension of the format it really has."""
    stem = _NAME.sub("_", unquote(url.raw_path.rpartition("/")[2], errors="replace").rpartition(".")[0] or "")
    return f"{stem[:_STEM].strip('._') or 'image'}.{extension}"


def shown(text: str) -> str:
    """An address for a sentence: in one line, and not endless."""
    flat = " ".join(text.encode(errors="replace").decode().split())
    return flat if len(flat) <= _SHOWN else f"{flat[: _SHOWN - 1]}…"


def by_turns(items: Iterable[tuple[str, int]]) -> Iterator[int]:
    """Positions ordered so that their hosts take turns: one slow host with many rows then does not hold up the others.

    Args:
        items: (host, position) pairs.
    """
    queues: dict[str, deque[int]] = {}
    for host, position in items:
        queues.setdefault(host, deque()).append(position)
    waiting = deque(queues.values())
    while waiting:
        queue = waiting.popleft()
        yield queue.popleft()
        if queue:
            waiting.append(queue)


def _read(text: str) -> URL:
    # Characters that are legal already stay as they are: signed addresses must not be spelt anew.
    return URL(text, encoded=_LEGAL.fullmatch(text) is not None)


def _checked(read: Callable[[], URL]) -> URL:
    try:
        url = read()
        host, _, scheme = url.raw_host, url.port, url.scheme
        if not scheme or (scheme in _SCHEMES and (not host or _HOST.fullmatch(host) is None)):
            raise FetchFault("url_invalid", "it names no host that could be asked")
        if scheme not in _SCHEMES:
            raise FetchFault("url_scheme", f"the scheme is '{shown(scheme)}'; http and https are fetched")
        return url.with_user(None).with_fragment(None)
    except ValueError as error:
        raise FetchFault("url_invalid", f"it is no URL ({' '.join(str(error).split())[:120]})") from error
