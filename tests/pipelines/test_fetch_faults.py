"""The step `fetch` where the ground itself gives way: names, TLS, mangled HTTP, endless robots.txt, impatience."""

from __future__ import annotations

import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hostile_server import GOOD, PLAIN, Hostile, answer, hostile
from test_fetch_step import kept, loopback, reasons, rows, step_with

from pipelines.fetch import hosts
from pipelines.fetch.addresses import AddressInfo
from pipelines.fetch.config import FetchConfig
from pipelines.fetch.faults import REASONS
from pipelines.fetch.hosts import HostBook
from pipelines.fetch.robots_rules import RobotsRules
from pipelines.fetch.step import Fetch

pytestmark = pytest.mark.timeout(60)
OF_IMAGES = {"image_empty", "image_format_unknown", "image_truncated", "image_too_large", "image_corrupt"}


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile() as running:
        yield running


def test_a_name_server_that_hangs_holds_up_its_own_rows_only(server: Hostile) -> None:
    free = threading.Event()

    def look_up(host: str, port: int) -> Sequence[AddressInfo]:
        if host.startswith("hung"):
            free.wait(20)
        return loopback(host, port)

    config = FetchConfig(
        deadline_s=2, connect_timeout_s=0.4, backoff_s=0.01, max_attempts=2, allow_networks=("127.0.0.0/8",)
    )
    step = Fetch(config, look_up)
    step.setup()
    urls = [server.url("good", f"{name}{number}.test") for number in range(10) for name in ("hung", "fine")]
    started = time.monotonic()
    result = step(rows(list(urls)))
    assert time.monotonic() - started < 2.5
    assert kept(result) == list(range(1, 20, 2)) and set(reasons(result).values()) == {"timeout"}
    free.set()


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    """A server with a self-signed certificate that answers everything with the good image."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [*make, "-keyout", key, "-out", certificate, "-subj", "/CN=h.test", "-days", "2"],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                path = secure.recv(65536).split()[1]
                status = "404 Not Found" if path == b"/robots.txt" else "200 OK"
                secure.sendall(answer(GOOD, status, Connection="close"))

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_tls(server: Hostile, tmp_path: Path) -> None:
    with tls_server(tmp_path) as port:
        urls = [f"https://h.test:{port}/x.jpg", server.url("good", "h.test").replace("http", "https")]
        # The second waits for the end of a request in clear text.
        assert reasons(step_with()(rows(list(urls)))) == {0: "tls", 1: "timeout"}
        assert kept(step_with(verify_tls=False)(rows(list(urls)))) == [0]


def mangled(draw: random.Random) -> bytes:
    """One of the server's answers with a few bytes changed, mostly in its head."""
    data = bytearray(PLAIN[draw.choice([name for name in PLAIN if name != "gzip_bomb"])]())
    lines = (b"\r\n", b"\0", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Location: //\r\n")
    for _ in range(draw.randint(1, 4)):
        end = data.find(b"\r\n\r\n") if draw.random() < 0.7 else len(data)
        place = draw.randrange(max(1, end))
        change = draw.randrange(4)
        if change == 0:
            data[place : place + 1] = bytes([draw.randrange(256)])
        elif change == 1:
            del data[place : place + draw.randint(1, 10)]
        elif change == 2:
            data[place:place] = draw.choice(lines)
        else:
            del data[place + 1 :]
    return bytes(data)


def test_whatever_a_server_sends_each_row_has_an_outcome(server: Hostile) -> None:
    draw = random.Random(4)
    count = 300
    for number in range(count):
        data = mangled(draw)
        server.extra[f"mangled{number}"] = lambda connection, data=data: connection.sendall(data)  # type: ignore[misc]
    urls = [server.url(f"mangled{number}", f"h{number}.test") for number in range(count)]
    result = step_with(robots_txt=False)(rows(list(urls)))
    found = set(reasons(result).values())
    assert result.kept.num_rows + result.rejected.num_rows == count and len(found) > 8
    assert all(reason in {*REASONS, *OF_IMAGES} or reason.startswith("http_") for reason in found)


def test_a_mangled_or_endless_robots_txt_ends_with_the_row(server: Hostile) -> None:
    drip = b"HTTP/1.1 200 OK\r\n\r\n"
    server.extra["dripping"] = lambda connection: [
        connection.sendall(drip if number == 0 else b"#") or time.sleep(0.05) for number in range(200)
    ]
    server.extra["endless_text"] = lambda connection: connection.sendall(
        drip + b"User-agent: *\nDisallow: /\n" * 400_000
    )
    for name, expected in (("dripping", "timeout"), ("endless_text", "robots_txt")):
        server.robots = answer(b"", "302 Found", Location=f"/{name}")
        started = time.monotonic()
        result = step_with(max_attempts=1)(rows([server.url("good", "h.test"), server.url("good?2", "h.test")]))
        assert set(reasons(result).values()) == {expected} and time.monotonic() - started < 2.5
    draw = random.Random(5)
    for _ in range(12):
        server.robots = mangled(draw)
        result = step_with(max_attempts=1, deadline_s=0.4)(rows([server.url("good", "h.test")]))
        assert result.kept.num_rows + result.rejected.num_rows == 1


def test_an_error_page_that_says_noindex_is_an_error_page(server: Hostile) -> None:
    server.extra["gone"] = lambda connection: connection.sendall(answer(b"", "410 Gone", X_Robots_Tag="noindex"))
    assert reasons(step_with()(rows([server.url("gone", "h.test")]))) == {0: "http_410"}


def test_what_is_remembered_of_hosts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "MOST_HOSTS", 10)
    monkeypatch.setattr(hosts, "MOST_ROBOTS_BYTES", 5_000)
    book = HostBook()
    for number in range(30):
        book.keep_robots(f"h{number}", RobotsRules("editmill", "#" * 900), 9e9)
        book.keep_robots(f"h{number}", RobotsRules("editmill", "#" * 1000), 9e9)
    remembered = [number for number in range(30) if f"h{number}" in book._hosts]
    assert remembered == [25, 26, 27, 28, 29]
    for number in range(30):
        book.of(f"plain{number}")
    assert len(book._hosts) == 10 and book._robots_bytes == 0


def test_a_request_to_be_left_alone_for_ever_ends(server: Hostile) -> None:
    server.extra["never"] = lambda connection: connection.sendall(answer(b"", "503 Busy", Retry_After="1" + "0" * 300))
    step = step_with(per_host=1, robots_txt=False)
    result = step(rows([server.url("never", "h.test"), server.url("good", "h.test")]))
    assert reasons(result) == {0: "http_503", 1: "host_busy"}
    assert step._book.of(f"http://h.test:{server.port}").next_at < time.monotonic() + 3601
