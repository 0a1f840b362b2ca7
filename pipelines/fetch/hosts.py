"""Manners towards hosts: how many requests at once, how far apart, and when a host is left alone.

What is known of a host outlives a batch (`HostBook`); who waits for it belongs to one batch (`Turns`). Both count
within one process: N worker processes make up to N times as many requests.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipelines.fetch.config import FetchConfig
from pipelines.fetch.faults import FetchFault
from pipelines.fetch.robots_rules import RobotsRules

MOST_HOSTS = 20_000
"""Hosts remembered; those used longest ago are forgotten first."""
LONGEST_PAUSE_S = 3600.0
"""A host that asks by `Retry-After` to be left alone is, for at most so long."""
MOST_ROBOTS_BYTES = 8 * 2**20
"""Bytes of robots.txt remembered; parsed, they take some twenty times as much."""


@dataclass
class Host:
    """What is known of one host. Times are of the monotonic clock.

    Args:
        failures: faults in a row.
        left_alone_until: the circuit is open until then; after it, one request may try.
        probing: that request is under way.
        last_fault: what the last fault was.
        next_at: no request may begin before.
        interval_s: least seconds between two beginnings, as robots.txt asks.
        robots: its rules, with the time until which they hold.
    """

    failures: int = 0
    left_alone_until: float = 0.0
    probing: bool = False
    last_fault: str = ""
    next_at: float = 0.0
    interval_s: float = 0.0
    robots: tuple[RobotsRules, float] | None = None


class HostBook:
    """What a process knows of hosts, by origin (`scheme://host:port`)."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, Host] = OrderedDict()
        self._robots_bytes = 0

    def of(self, origin: str) -> Host:
        """The entry of `origin`, made where there is none."""
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = Host()
            if len(self._hosts) > MOST_HOSTS:
                self._forget_oldest()
        self._hosts.move_to_end(origin)
        return host

    def keep_robots(self, origin: str, rules: RobotsRules, until: float) -> None:
        """Remember the rules of a host until a monotonic time."""
        host = self.of(origin)
        self._robots_bytes += len(rules.text) - _robots_bytes(host)
        host.robots = (rules, until)
        host.interval_s = rules.crawl_delay_s
        while self._robots_bytes > MOST_ROBOTS_BYTES and len(self._hosts) > 1:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, host = self._hosts.popitem(last=False)
        self._robots_bytes -= _robots_bytes(host)


class Turns:
    """Hands out turns at hosts within one batch, on one event loop."""

    def __init__(self, config: FetchConfig, book: HostBook) -> None:
        self._config = config
        self._book = book
        self._places: dict[str, asyncio.Semaphore] = {}
        self._probed: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def turn(self, origin: str) -> AsyncIterator[Host]:
        """Hold one of the host's places.

        Raises:
            FetchFault: `host_unavailable`, where the host is left alone.
        """
        places = self._places.setdefault(origin, asyncio.Semaphore(self._config.per_host))
        async with places:
            host = self._book.of(origin)
            mine = await self._pass_circuit(origin, host)
            try:
                yield host
            finally:
                if mine:
                    host.probing = False
                    self._probed.pop(origin).set()

    async def pace(self, host: Host, until: float) -> None:
        """Wait until the host's next request may begin, and take that moment.

        Args:
            until: monotonic time after which there is no use in waiting.

        Raises:
            FetchFault: `host_busy`, at once, where that moment is later.
        """
        now = time.monotonic()
        start = max(now, host.next_at)
        if start > until:
            raise FetchFault(
                "host_busy", f"the host's next turn is {start - now:.1f} s away, longer than the row may wait"
            )
        host.next_at = start + max(self._config.host_interval_s, host.interval_s)
        if start > now:
            await asyncio.sleep(start - now)

    def succeeded(self, host: Host) -> None:
        """The host answered: whatever it said, it is there."""
        host.failures = 0
        host.left_alone_until = 0.0

    def failed(self, host: Host, fault: FetchFault) -> None:
        """Count a fault of the host."""
        if fault.retry_after_s is not None:
            host.next_at = max(host.next_at, time.monotonic() + min(fault.retry_after_s, LONGEST_PAUSE_S))
        most = self._config.circuit_failures
        host.failures += 1
        host.last_fault = fault.reason
        if most is not None and host.failures >= most:
            host.left_alone_until = time.monotonic() + self._config.circuit_open_s

    async def _pass_circuit(self, origin: str, host: Host) -> bool:
        """Whether this request is the one that tries if a host is back; False for an ordinary request."""
        while host.left_alone_until:
            if time.monotonic() < host.left_alone_until:
                raise FetchFault(
                    "host_unavailable",
                    f"the host failed {host.failures} times in a row, last with {host.last_fault}, and is left alone",
                )
            if not host.probing:
                host.probing = True
                self._probed[origin] = asyncio.Event()
                return True
            await self._probed[origin].wait()
        return False


def _robots_bytes(host: Host) -> int:
    return 0 if host.robots is None else len(host.robots[0].text)
