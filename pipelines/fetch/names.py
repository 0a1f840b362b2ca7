"""Resolving host names, in threads of its own: a name server that hangs takes none that others wait for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from pipelines.fetch.addresses import AddressInfo

GetAddressInfo = Callable[[str, int], Sequence[AddressInfo]]
"""(host, port) -> address infos, as `socket.getaddrinfo`; raises `socket.gaierror`."""


def system_addresses(host: str, port: int) -> Sequence[AddressInfo]:
    """What the system's resolver says."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


class ThreadedNames(AbstractResolver):
    """aiohttp's resolver over `GetAddressInfo`.

    Args:
        threads: names resolved at once.
    """

    def __init__(self, look_up: GetAddressInfo, threads: int) -> None:
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fetch-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The host's addresses, in the resolver's order.

        Raises:
            socket.gaierror: there are none.
        """
        found: Any = await asyncio.get_running_loop().run_in_executor(self._threads, self._encodable, host, port)
        return [
            ResolveResult(
                hostname=host,
                host=place[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, place in found
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        """Let go of the threads; one that hangs in the system's resolver ends when that gives up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _encodable(self, host: str, port: int) -> Sequence[AddressInfo]:
        try:
            return self._look_up(host, port)
        except UnicodeError as error:
            # A label that is empty or longer than 63 characters is no name that could be asked for.
            raise socket.gaierror(socket.EAI_NONAME, str(error)) from error
