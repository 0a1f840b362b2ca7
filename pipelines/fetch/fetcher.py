"""Fetching a batch of addresses: many at once, each within its own deadline, none able to hold up the others."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from yarl import URL

from pipelines.fetch.body import ByteBudget
from pipelines.fetch.client import Answer, Client, open_client
from pipelines.fetch.config import FetchConfig
from pipelines.fetch.content import Content, look_at
from pipelines.fetch.faults import FetchFault
from pipelines.fetch.hosts import Host, HostBook, Turns
from pipelines.fetch.names import GetAddressInfo
from pipelines.fetch.robots import RobotsReader
from pipelines.fetch.urls import by_turns, file_name, origin, parse_url, shown
from pipelines.retries import wait_s
from schemas.errors import RowRejected

ROWS_BEGUN = 4
"""Rows begun for each request that may be under way: those that wait for a busy host do not keep the others waiting."""

_TICK_S = 0.01
"""A timer of the event loop may ring a little early."""


@dataclass(frozen=True)
class Fetched:
    """An image that came.

    Args:
        name: of the file, with the extension of its real format.
    """

    name: str
    content: Content


class _Clock:
    """The time of one row. It begins with the row's first turn, so that waiting for a busy host is not counted; that
    has an end of its own."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self.started = False
        self.end = self._loop.time() + config.turn_timeout_s

    def start(self) -> float:
        """Begin, if that was not done yet; the row's end on the loop's clock."""
        if not self.started:
            self.started = True
            self.end = self._loop.time() + self._config.deadline_s
        return self.end

    def left_s(self) -> float:
        """Seconds until the end."""
        return self.end - self._loop.time()

    def fault(self) -> FetchFault:
        """What it means that the end came."""
        if self.started:
            return FetchFault("timeout", f"not done within the deadline of {self._config.deadline_s:g} s")
        return FetchFault("host_busy", f"no turn at the host within {self._config.turn_timeout_s:g} s")


class Fetcher:
    """Fetches one batch on the running event loop.

    Args:
        client: does the single exchanges.
        book: what is known of hosts.
        lookers: threads that decode.
    """

    def __init__(self, config: FetchConfig, client: Client, book: HostBook, lookers: ThreadPoolExecutor) -> None:
        self._config = config
        self._client = client
        self._lookers = lookers
        self._turns = Turns(config, book)
        self._robots = RobotsReader(config, book, client.robots)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._budget = ByteBudget(config.max_batch_bytes)
        # Jitter moves requests in time and decides no result.
        self._draw = random.Random()

    async def fetch_all(self, urls: Sequence[str | None]) -> list[Fetched | RowRejected]:
        """What became of each address, in order; an address that stands there twice is asked for once."""
        outcomes: dict[str | None, Fetched | RowRejected] = {}
        targets: dict[str, URL] = {}
        for text in dict.fromkeys(urls):
            try:
                targets[text or ""] = parse_url(text)
            except FetchFault as fault:
                outcomes[text] = _told(text, fault)
        texts = list(targets)
        order = by_turns((origin(targets[text]), place) for place, text in enumerate(texts))
        workers = min(len(texts), ROWS_BEGUN * self._config.concurrency)
        try:
            await asyncio.gather(*(self._work(order, texts, targets, outcomes) for _ in range(workers)))
        finally:
            await self._robots.close()
        return [outcomes[text] for text in urls]

    async def _work(
        self,
        order: Iterator[int],
        texts: Sequence[str],
        targets: dict[str, URL],
        outcomes: dict[str | None, Fetched | RowRejected],
    ) -> None:
        for place in order:
            text = texts[place]
            try:
                outcomes[text] = await self._fetch(targets[text])
            except RowRejected as rejection:
                outcomes[text] = _told(text, rejection)

    async def _fetch(self, url: URL) -> Fetched:
        clock = _Clock(self._config)
        data, final = await self._until_done(url, clock)
        try:
            content = await asyncio.get_running_loop().run_in_executor(
                self._lookers, look_at, data, self._config.check, self._config.max_pixels
            )
        except RowRejected:
            self._budget.give_back(len(data))
            raise
        return Fetched(file_name(final, content.extension), content)

    async def _until_done(self, url: URL, clock: _Clock) -> tuple[bytes, URL]:
        """Attempts, with waits between them, until one succeeds or there is no use in another."""
        config = self._config
        former: FetchFault | None = None
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(url, clock)
            except FetchFault as fault:
                if former is not None and (fault.reason == "host_unavailable" or not clock.left_s() > 0):
                    # The row's own fault says more than that time or patience ended meanwhile.
                    raise FetchFault(former.reason, f"{former.sentence}; attempt {attempt - 1}") from fault
                if not fault.retryable or attempt == config.max_attempts:
                    raise _after(fault, f"attempt {attempt}" if attempt > 1 else "") from fault
                wait = max(wait_s(attempt, config.backoff_s, None, self._draw), fault.retry_after_s or 0.0)
                if wait >= clock.left_s():
                    raise _after(fault, f"no time is left to wait {wait:.1f} s for attempt {attempt + 1}") from fault
                former = fault
                await asyncio.sleep(wait)

    async def _attempt(self, url: URL, clock: _Clock) -> tuple[bytes, URL]:
        """One attempt: the address, and where it redirects to."""
        for _ in range(self._config.max_redirects + 1):
            answer = await self._hop(url, clock)
            if answer.redirect is None:
                return answer.data, url
            url = answer.redirect
        raise FetchFault(
            "too_many_redirects", f"more than {self._config.max_redirects} redirects, the last to {shown(str(url))}"
        )

    async def _hop(self, url: URL, clock: _Clock) -> Answer:
        """One request, in its turn at the host, as robots.txt allows."""
        try:
            async with asyncio.timeout_at(clock.end) as limit:
                async with self._turns.turn(origin(url)) as host:
                    await self._turns.pace(host, clock.end)
                    async with self._slots:
                        limit.reschedule(clock.start())
                        return await self._ask(url, host, clock)
        except TimeoutError as error:
            raise clock.fault() from error

    async def _ask(self, url: URL, host: Host, clock: _Clock) -> Answer:
        """Ask the host, and note whether it is in order."""
        try:
            if await self._robots.check(url, host):
                await self._turns.pace(host, clock.end)
            answer = await self._client.get(url, self._budget)
        except FetchFault as fault:
            if fault.blames_host:
                self._turns.failed(host, fault)
            elif fault.reason not in _SAY_NOTHING:
                self._turns.succeeded(host)
            raise
        except asyncio.CancelledError:
            if clock.left_s() < _TICK_S:
                self._turns.failed(host, clock.fault())
            raise
        self._turns.succeeded(host)
        return answer


_SAY_NOTHING = frozenset({"host_busy", "batch_full", "address_refused"})
"""Faults that do not tell whether the host is there."""


async def fetch_batch(
    urls: Sequence[str | None],
    config: FetchConfig,
    book: HostBook,
    look_up: GetAddressInfo,
    tls: ssl.SSLContext,
    lookers: ThreadPoolExecutor,
) -> list[Fetched | RowRejected]:
    """`Fetcher.fetch_all` with a client of its own."""
    async with open_client(config, look_up, tls) as client:
        return await Fetcher(config, client, book, lookers).fetch_all(urls)


def _after(fault: FetchFault, remark: str) -> FetchFault:
    return FetchFault(fault.reason, f"{fault.sentence}; {remark}") if remark else fault


def _told(url: str | None, rejection: RowRejected) -> RowRejected:
    """The rejection with the address in its sentence."""
    where = f"{shown(url)}: " if url else ""
    # What servers send may not be text; an outcome is.
    sentence = (where + rejection.sentence).encode(errors="backslashreplace").decode()
    return RowRejected(rejection.reason, sentence)
