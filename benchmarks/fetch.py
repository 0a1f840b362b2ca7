"""Images a second of the step `fetch` over loopback, beside its peers in the same run.

    python benchmarks/fetch.py
    python benchmarks/fetch.py --images 500 --concurrency 16

The server is a process of its own that answers from memory, so that on two cores it takes one and the client the other.
Peers: a plain sequential loop over one `httpx` client, and a bare `aiohttp` gather behind a semaphore, which checks
nothing (no address, no robots.txt, no limits, no hash), with and without decoding the images as the step does. Ratios
are of medians over the repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.synchronize import Event

import aiohttp
import httpx
import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines.fetch.config import FetchConfig
from pipelines.fetch.content import look_at
from pipelines.fetch.step import Fetch

DISTINCT = 64
CHECKS = ("header", "decode")
DELAY_S = 0.05
NOT_FOUND = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"


def jpegs(side: int) -> list[bytes]:
    """Distinct JPEGs of smooth noise, side x side pixels."""
    made = []
    for seed in range(DISTINCT):
        small = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        made.append(stream.getvalue())
    return made


class Server(asyncio.Protocol):
    """Keep-alive HTTP that answers /N with image N modulo their number, /slow/N after `DELAY_S`, all else with 404."""

    answers: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].removeprefix(b"/")
            number = path.removeprefix(b"slow/")
            body = self.answers[int(number) % DISTINCT] if number.isdigit() else NOT_FOUND
            write: Callable[[bytes], None] = self.transport.write  # type: ignore[attr-defined]
            if path is number:
                write(body)
            else:
                asyncio.get_running_loop().call_later(DELAY_S, write, body)


def serve(side: int, port: multiprocessing.sharedctypes.Synchronized[int], ready: Event) -> None:
    """Run the server until the process is ended."""
    Server.answers = [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)
        for data in jpegs(side)
    ]

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
        port.value = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    asyncio.run(run())


def sequential(urls: list[str]) -> int:
    """One request after the other."""
    with httpx.Client() as client:
        return sum(len(client.get(url).content) > 0 for url in urls)


def bare_gather(urls: list[str], concurrency: int, decode: bool = False) -> int:
    """What many scripts do; with `decode`, each image is decoded in a pool of threads as the step does."""

    async def run() -> int:
        slots = asyncio.Semaphore(concurrency)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

                async def one(url: str) -> int:
                    async with slots, session.get(url) as response:
                        data = await response.read()
                    if decode:
                        await loop.run_in_executor(pool, look_at, data, "decode", 64_000_000)
                    return len(data) > 0

                return sum(await asyncio.gather(*(one(url) for url in urls)))

    return asyncio.run(run())


def step_of(concurrency: int, check: str) -> Callable[[list[str]], int]:
    """The step; every row is of one host here, so that its place there must be as wide as the whole."""
    config = FetchConfig(
        concurrency=concurrency,
        per_host=concurrency,
        check=check,
        allow_networks=("127.0.0.0/8",),  # type: ignore[arg-type]
    )
    step = Fetch(config)
    step.setup()

    def run(urls: list[str]) -> int:
        table = pa.table({"key": [f"{place:032x}" for place in range(len(urls))], "url": urls})
        return step(table).kept.num_rows

    return run


_ready: list[Callable[[list[str]], int]] = []


def _make_ready(concurrency: int) -> None:
    _ready.append(step_of(concurrency, "decode"))


def _work(urls: list[str]) -> int:
    return _ready[0](urls)


def by_workers(urls: list[str], workers: int, concurrency: int, repeats: int) -> float:
    """Images a second of so many processes with a share of the rows each; their start is not counted."""
    shares = [urls[place::workers] for place in range(workers)]
    with multiprocessing.get_context("spawn").Pool(workers, _make_ready, (concurrency,)) as pool:
        pool.map(_work, [share[:10] for share in shares], chunksize=1)
        return rate(lambda: sum(pool.map(_work, shares, chunksize=1)), len(urls), repeats)


def rate(call: Callable[[], int], images: int, repeats: int) -> float:
    """Images a second, median over `repeats`; every image must have come."""
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        came = call()
        rates.append(images / (time.perf_counter() - started))
        if came != images:
            raise SystemExit(f"{came} of {images} images came")
    return statistics.median(rates)


def table(urls: list[str], concurrencies: Sequence[int], plain: float, repeats: int) -> None:
    """Print the rates at several numbers of requests at once; `plain` is that of the sequential loop."""
    print(f"{'at once':>8} {'gather':>8} {'+ decode':>9} {'fetch, header':>14} {'fetch, decode':>14}   ratios to both")
    for concurrency in concurrencies:
        ways = [
            partial(bare_gather, urls, concurrency),
            partial(bare_gather, urls, concurrency, decode=True),
            *(partial(step_of(concurrency, check), urls) for check in CHECKS),
        ]
        bare, decoded, header, decode = (rate(way, len(urls), repeats) for way in ways)
        ratios = f"{header / bare:.2f} {decode / decoded:.2f}, decode / sequential {decode / plain:.2f}"
        print(f"{concurrency:>8} {bare:>8.0f} {decoded:>9.0f} {header:>14.0f} {decode:>14.0f}   {ratios}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256, help="pixels of a side")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    port, ready = context.Value("i", 0), context.Event()
    server = context.Process(target=serve, args=(options.side, port, ready), daemon=True)
    server.start()
    ready.wait(60)
    urls = [f"http://127.0.0.1:{port.value}/{number}" for number in range(options.images)]
    size = statistics.mean(len(data) for data in jpegs(options.side)) / 1024
    print(f"{options.images} JPEGs of {options.side} x {options.side} ({size:.1f} KiB), {os.cpu_count()} cores")
    plain = rate(lambda: sequential(urls), options.images, options.repeats)
    print(f"sequential httpx: {plain:.0f} images/s\n\nimages/s, the server answering at once")
    table(urls, options.concurrency, plain, options.repeats)
    slow = [url.replace(f"{port.value}/", f"{port.value}/slow/") for url in urls]
    plain = rate(lambda: sequential(slow[:40]), 40, 1)
    print(f"\nimages/s, the server answering after {1e3 * DELAY_S:.0f} ms; sequential httpx: {plain:.0f}")
    table(slow, [64], plain, options.repeats)
    one, two = (by_workers(urls, workers, 64, options.repeats) for workers in (1, 2))
    print(f"\n64 at once, decoded: {one:.0f} images/s by one worker, {two:.0f} by two ({two / one:.2f} x)")
    server.kill()
    server.join()


if __name__ == "__main__":
    main()
