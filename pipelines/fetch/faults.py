"""What may go wrong with a fetch, by class: the stable reasons, and which of them may pass."""

from __future__ import annotations

import asyncio
import socket
import ssl
from http import HTTPStatus

import aiohttp

from pipelines.fetch.addresses import AddressRefusedError
from schemas.errors import RowRejected

REASONS: dict[str, str] = {
    "url_missing": "the row has no address",
    "url_invalid": "the address cannot be read as a URL",
    "url_scheme": "neither http nor https",
    "address_refused": "the host is at a private, loopback, link-local or otherwise not public address",
    "dns": "the host's name could not be resolved",
    "timeout": "the deadline, a connection's or a read's timeout passed",
    "connection": "refused, reset, closed early, or no route",
    "tls": "the TLS handshake or the certificate failed",
    "http_malformed": "what came back is no HTTP",
    "http_404": "and likewise for every other status than success: http_403, http_429, http_503, ...",
    "http_unknown_status": "a status that HTTP does not define",
    "redirect_invalid": "a redirect without a usable address",
    "too_many_redirects": "more redirects than allowed, or a loop",
    "body_truncated": "the body ended before its announced length",
    "content_encoding": "a content encoding that was not asked for and cannot be decoded",
    "robots_txt": "robots.txt disallows the address",
    "robots_unreachable": "robots.txt answers with a server error, which disallows everything",
    "opted_out": "X-Robots-Tag or tdm-reservation keeps the image out",
    "host_unavailable": "the host failed several times in a row and is left alone for a while",
    "host_busy": "the row's turn at a busy host did not come in time",
    "batch_full": "the images of this partition take all the memory that the config allows",
    "image_too_many_bytes": "more bytes than allowed, announced or arrived, or once decompressed",
    "image_hash_mismatch": "the bytes do not have the SHA-256 or MD5 that the record declares",
}
"""Reason -> its meaning. Those of `schemas.images` (`image_empty`, `image_format_unknown`, `image_truncated`,
`image_too_large`, `image_corrupt`) join them."""

_RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429


class FetchFault(RowRejected):
    """A fetch that did not come to its end.

    Args:
        retryable: another attempt may go better.
        blames_host: it counts against the host, for the circuit breaker.
        retry_after_s: seconds that the host asked to be left alone, or None.
    """

    def __init__(
        self,
        reason: str,
        sentence: str,
        *,
        retryable: bool = False,
        blames_host: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason, sentence)
        self.retryable = retryable
        self.blames_host = blames_host
        self.retry_after_s = retry_after_s


def passing_fault(reason: str, sentence: str) -> FetchFault:
    """A fault of the host that may pass."""
    return FetchFault(reason, sentence, retryable=True, blames_host=True)


def status_fault(status: int, retry_after_s: float | None) -> FetchFault:
    """The fault of an answer whose status is neither a success nor a redirect."""
    try:
        known = HTTPStatus(status)
    except ValueError:
        return FetchFault("http_unknown_status", f"the server answered with the undefined status {status}")
    return FetchFault(
        f"http_{status}",
        f"the server answered {status} {known.phrase}",
        retryable=status in _RETRYABLE_STATUSES,
        blames_host=status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS,
        retry_after_s=retry_after_s,
    )


CLIENT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError, asyncio.IncompleteReadError)
"""What aiohttp raises of what a server does; `client_fault` tells which fault it is. ValueError: an answer whose header
cannot be used."""


def client_fault(error: Exception) -> FetchFault:
    """The fault behind an exception of `CLIENT_ERRORS`; told by its type and error number, never by its text."""
    cause = getattr(error, "os_error", None) or error
    if isinstance(cause, AddressRefusedError):
        return FetchFault("address_refused", f"the host is at {cause.address}, which is {cause.kind}")
    if isinstance(cause, socket.gaierror):
        if cause.errno == socket.EAI_AGAIN:
            return passing_fault("dns", "the name server did not answer for the host's name")
        return FetchFault("dns", f"the host's name cannot be resolved ({cause.strerror})", blames_host=True)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | aiohttp.ClientConnectorCertificateError):
        return FetchFault("tls", f"no TLS connection ({_described(cause)})", blames_host=True)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return passing_fault("timeout", "no connection came about in time")
    if isinstance(error, TimeoutError):
        return passing_fault("timeout", "no byte came in time")
    if isinstance(error, aiohttp.InvalidURL):
        return FetchFault("url_invalid", f"the address cannot be used ({_described(error)})")
    if isinstance(error, aiohttp.ClientPayloadError | asyncio.IncompleteReadError):
        return passing_fault("body_truncated", f"the body broke off ({_described(error)})")
    if isinstance(error, aiohttp.ClientResponseError | ValueError):
        return FetchFault("http_malformed", f"what came back is no HTTP ({_described(error)})", blames_host=True)
    return passing_fault("connection", f"the connection failed ({_described(cause)})")


def _described(error: object) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text[:160]}" if text else name
