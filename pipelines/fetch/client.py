"""One HTTP exchange: no redirect followed, nothing believed, every failure a typed fault."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import aiohttp
from yarl import URL

from pipelines.fetch.addresses import checked_sockets, parse_networks
from pipelines.fetch.body import ByteBudget, read_body
from pipelines.fetch.config import FetchConfig
from pipelines.fetch.faults import CLIENT_ERRORS, FetchFault, client_fault, status_fault
from pipelines.fetch.names import GetAddressInfo, ThreadedNames
from pipelines.fetch.opt_out import refused_directive, reserves_tdm
from pipelines.fetch.robots_rules import MOST_BYTES
from pipelines.fetch.urls import redirect_url
from pipelines.retries import parse_retry_after

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SUCCESSES = frozenset({200, 203})
_ROBOTS_REDIRECTS = 5
_NAMES_AT_ONCE = 64
_DNS_CACHE_S = 60
_READ_BUFFER = 2**16


@dataclass(frozen=True)
class Answer:
    """What a server said to one request.

    Args:
        redirect: where it sends to, or None.
        data: the body; empty where it redirects.
    """

    redirect: URL | None
    data: bytes


class Client:
    """Requests within the limits of a config."""

    def __init__(self, config: FetchConfig, session: aiohttp.ClientSession) -> None:
        self._config = config
        self._session = session

    async def get(self, url: URL, budget: ByteBudget) -> Answer:
        """Ask for an image.

        Args:
            budget: where the bytes of the answer stay counted.

        Raises:
            FetchFault: whatever went wrong.
        """
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    return Answer(_location(url, response), b"")
                if response.status not in _SUCCESSES:
                    raise status_fault(response.status, parse_retry_after(response.headers.get("Retry-After")))
                # Only now: error pages commonly say noindex, of themselves.
                self._check_opt_out(response)
                return Answer(None, await read_body(response, self._config.max_bytes, budget))
        except CLIENT_ERRORS as error:
            raise client_fault(error) from error

    async def robots(self, url: URL) -> tuple[int, str]:
        """(status, text) of a robots.txt; up to five redirects are followed, wherever they lead.

        Raises:
            FetchFault: the host cannot be reached, or breaks off.
        """
        try:
            for _ in range(_ROBOTS_REDIRECTS + 1):
                async with self._session.get(url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return response.status, await _beginning(response)
                    try:
                        url = _location(url, response)
                    except FetchFault:
                        break
        except CLIENT_ERRORS as error:
            raise client_fault(error) from error
        return response.status, ""

    def _check_opt_out(self, response: aiohttp.ClientResponse) -> None:
        config = self._config
        tags = response.headers.getall("X-Robots-Tag", [])
        directive = refused_directive(tags, config.user_agent, config.disallowed_directives)
        if directive is not None:
            raise FetchFault("opted_out", f"X-Robots-Tag says '{directive}'")
        if config.tdm_reservation and reserves_tdm(response.headers.getall("tdm-reservation", [])):
            raise FetchFault("opted_out", "tdm-reservation: 1 reserves the rights of text and data mining")


@asynccontextmanager
async def open_client(config: FetchConfig, look_up: GetAddressInfo, tls: ssl.SSLContext) -> AsyncIterator[Client]:
    """A client with connections of its own. Proxies, cookies and credentials of the environment are not used."""
    connector = aiohttp.TCPConnector(
        limit=0,
        resolver=ThreadedNames(look_up, min(config.concurrency, _NAMES_AT_ONCE)),
        ttl_dns_cache=_DNS_CACHE_S,
        socket_factory=checked_sockets(parse_networks(config.allow_networks)),
        ssl=tls,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, connect=config.connect_timeout_s, sock_read=config.stall_timeout_s),
        headers={"User-Agent": user_agent(config), "Accept": "image/*,*/*;q=0.1", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=_READ_BUFFER,
    )
    try:
        async with session:
            yield Client(config, session)
    finally:
        await connector.close()


def user_agent(config: FetchConfig) -> str:
    """The `User-Agent` header: who asks, in which version, and how to reach whom."""
    try:
        product = f"{config.user_agent}/{version('editmill')}"
    except PackageNotFoundError:
        product = config.user_agent
    return product if config.contact is None else f"{product} (+{config.contact})"


def tls_context(config: FetchConfig) -> ssl.SSLContext:
    """The system's certificates, or none where the config does not want them verified. Takes some 30 ms."""
    context = ssl.create_default_context()
    if not config.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _location(url: URL, response: aiohttp.ClientResponse) -> URL:
    location = response.headers.get("Location")
    if not location:
        raise FetchFault("redirect_invalid", f"the server answered {response.status} without saying where to")
    return redirect_url(url, location)


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The text of a robots.txt as far as it is read; an encoding that was not asked for makes it none."""
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        return ""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) >= MOST_BYTES:
            break
    return data[:MOST_BYTES].decode("utf-8", errors="replace").removeprefix("\ufeff")
