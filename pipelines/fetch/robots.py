"""Reading each host's robots.txt once, for all rows that wait for it, and remembering it for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from yarl import URL

from pipelines.fetch.config import FetchConfig
from pipelines.fetch.faults import FetchFault
from pipelines.fetch.hosts import Host, HostBook
from pipelines.fetch.robots_rules import RobotsRules
from pipelines.fetch.urls import origin

RETRY_S = 300.0
"""A robots.txt that answered with a server error is asked for again after this many seconds."""
_OK = range(200, 300)
_UNAVAILABLE = range(400, 500)
_TOO_MANY_REQUESTS = 429

ReadRobots = Callable[[URL], Awaitable[tuple[int, str]]]
"""Gives (status, text) of a robots.txt after its redirects; raises FetchFault where the host cannot be reached."""


class RobotsReader:
    """Rules by host, within one batch; what is read is kept in the book of hosts, which outlives it.

    Args:
        read: how a robots.txt is read.
    """

    def __init__(self, config: FetchConfig, book: HostBook, read: ReadRobots) -> None:
        self._config = config
        self._book = book
        self._read = read
        self._under_way: dict[str, asyncio.Task[RobotsRules]] = {}

    async def check(self, url: URL, host: Host) -> bool:
        """Check that robots.txt allows `url`; returns whether the host was asked for it just now.

        Raises:
            FetchFault: `robots_txt`, `robots_unreachable`; or why the host could not be reached.
        """
        if not self._config.robots_txt:
            return False
        if host.robots is not None and time.monotonic() < host.robots[1]:
            host.robots[0].check(str(url))
            return False
        place = origin(url)
        task = self._under_way.get(place)
        if task is None:
            # A task of its own: the row that asked first may come to its end before the others.
            task = self._under_way[place] = asyncio.create_task(self._load(url))
            task.add_done_callback(lambda done: self._forget(place, done))
        rules = await asyncio.shield(task)
        rules.check(str(url))
        return True

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, url: URL) -> RobotsRules:
        try:
            # Half of a row's time, so that a robots.txt which does not end is told from an image which does not.
            async with asyncio.timeout(self._config.deadline_s / 2):
                status, text = await self._read(url.origin().with_path("/robots.txt"))
        except TimeoutError as error:
            raise FetchFault(
                "timeout", "robots.txt did not come to its end in time", retryable=True, blames_host=True
            ) from error
        except FetchFault as fault:
            raise FetchFault(
                fault.reason,
                f"robots.txt cannot be read: {fault.sentence}",
                retryable=fault.retryable,
                blames_host=fault.blames_host,
            ) from fault
        rules, keep_s = self._rules(status, text)
        if rules.text:
            # Parsed here, once, and not on the event loop: a large one takes a while.
            await asyncio.to_thread(rules.parse)
        self._book.keep_robots(origin(url), rules, time.monotonic() + keep_s)
        return rules

    def _rules(self, status: int, text: str) -> tuple[RobotsRules, float]:
        """RFC 9309, 2.3.1: success is parsed; 4xx, and redirects without end, allow all; server errors nothing."""
        agent = self._config.user_agent
        if status in _OK:
            return RobotsRules(agent, text), self._config.robots_cache_s
        if status < _UNAVAILABLE.start or (status in _UNAVAILABLE and status != _TOO_MANY_REQUESTS):
            return RobotsRules(agent), self._config.robots_cache_s
        refusal = FetchFault("robots_unreachable", f"robots.txt answers {status}, which disallows everything")
        return RobotsRules(agent, refusal=refusal), min(RETRY_S, self._config.robots_cache_s)

    def _forget(self, place: str, done: asyncio.Task[RobotsRules]) -> None:
        self._under_way.pop(place, None)
        if not done.cancelled():
            # Looked at, so that asyncio does not report an error whose rows have all ended.
            done.exception()
