"""A loopback HTTP server that does to each path what its name says, over raw sockets, so that it can break HTTP."""

from __future__ import annotations

import gzip
import io
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

LONGEST_S = 30.0


def jpeg(seed: int = 0, side: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def huge_png(side: int = 30_000) -> bytes:
    """A PNG of a few bytes whose header announces side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


GOOD = jpeg()


def answer(body: bytes = GOOD, status: str = "200 OK", **headers: str) -> bytes:
    lines = {"Content-Length": str(len(body)), "Content-Type": "image/jpeg"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


@dataclass
class Hostile:
    """What the server is told, and what it saw."""

    port: int = 0
    robots: bytes | None = None
    """Raw answer to /robots.txt; None: 404."""
    stop: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)
    """(time, path, headers) of every request."""
    asked: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    now: Counter[str] = field(default_factory=Counter)
    extra: dict[str, Callable[[socket.socket], None]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"


def _drip(server: Hostile, connection: socket.socket, first: bytes, piece: bytes) -> None:
    connection.sendall(first)
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end and not server.stop.wait(0.05):
        connection.sendall(piece)


def _endless(server: Hostile, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + GOOD)
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end and not server.stop.is_set():
        connection.sendall(b"\0" * 65536)


def _reset(connection: socket.socket, first: bytes = b"") -> None:
    if first:
        connection.sendall(first)
        time.sleep(0.05)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _bomb() -> bytes:
    return gzip.compress(b"\0" * 50_000_000)


PLAIN: dict[str, Callable[[], bytes]] = {
    "html": lambda: answer(b"<html><body>not here</body></html>"),
    "svg": lambda: answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "text_header": lambda: answer(Content_Type="text/html"),
    "empty": lambda: answer(b""),
    "no_content": lambda: b"HTTP/1.1 204 No Content\r\n\r\n",
    "cut_jpeg": lambda: answer(GOOD[:-200]),
    "broken_jpeg": lambda: answer(GOOD[:300] + b"\x13" * 200 + b"\xff\xd9"),
    "pixel_bomb": lambda: answer(huge_png()),
    "gzip": lambda: answer(gzip.compress(GOOD), Content_Encoding="gzip"),
    "deflate": lambda: answer(zlib.compress(GOOD), Content_Encoding="deflate"),
    "raw_deflate": lambda: answer(zlib.compress(GOOD)[2:-4], Content_Encoding="deflate"),
    "gzip_bomb": lambda: answer(_bomb(), Content_Encoding="gzip"),
    "gzip_cut": lambda: answer(gzip.compress(GOOD)[:-30], Content_Encoding="gzip"),
    "gzip_lie": lambda: answer(GOOD, Content_Encoding="gzip"),
    "brotli": lambda: answer(GOOD, Content_Encoding="br"),
    "huge_length": lambda: answer(GOOD, Content_Length="99999999999"),
    "negative_length": lambda: answer(GOOD, Content_Length="-5"),
    "truncated": lambda: answer(GOOD, Content_Length=str(len(GOOD) + 1000)),
    "chunked": lambda: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    ),
    "bad_chunk": lambda: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "not_http": lambda: b"SSH-2.0-OpenSSH_9.6\r\n",
    "bad_header": lambda: b"HTTP/1.1 200 OK\r\nthis is no header\r\nContent-Length: 3\r\n\r\nabc",
    "long_header": lambda: b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\nabc",
    "binary_header": lambda: b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe\x80/\r\nContent-Length: 0\r\n\r\n",
    "status_999": lambda: answer(b"no", "999 Request denied"),
    "status_404": lambda: answer(b"no", "404 Not Found"),
    "status_410": lambda: answer(b"no", "410 Gone"),
    "status_500": lambda: answer(b"no", "500 Internal Server Error"),
    "status_429": lambda: answer(b"no", "429 Too Many Requests", Retry_After="100"),
    "noai": lambda: answer(X_Robots_Tag="noai, noimageai"),
    "noai_for_us": lambda: answer(X_Robots_Tag="editmill: noai"),
    "noai_for_other": lambda: answer(X_Robots_Tag="otherbot: noai"),
    "tdm": lambda: answer(tdm_reservation="1"),
    "loop": lambda: answer(b"", "302 Found", Location="/loop"),
    "to_good": lambda: answer(b"", "301 Moved Permanently", Location="/good?moved"),
    "to_metadata": lambda: answer(b"", "302 Found", Location="http://169.254.169.254/latest/meta-data/"),
    "to_private": lambda: answer(b"", "302 Found", Location="http://10.1.2.3/x.jpg"),
    "to_file": lambda: answer(b"", "302 Found", Location="file:///etc/passwd"),
    "to_nowhere": lambda: answer(b"", "302 Found"),
    "to_invalid": lambda: answer(b"", "302 Found", Location="http://[zz/"),
}


def _respond(server: Hostile, connection: socket.socket, path: str) -> bool:
    """Answer; returns whether the connection may be used again."""
    name = path.lstrip("/").partition("?")[0]
    if name == "robots.txt":
        connection.sendall(server.robots or answer(b"", "404 Not Found"))
    elif name in server.extra:
        server.extra[name](connection)
        return False
    elif name in PLAIN:
        connection.sendall(PLAIN[name]())
        return False
    elif name == "endless":
        _endless(server, connection)
        return False
    elif name == "drip":
        _drip(server, connection, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"\xff")
        return False
    elif name == "drip_head":
        _drip(server, connection, b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n")
        return False
    elif name == "silent":
        server.stop.wait(LONGEST_S)
        return False
    elif name == "stall":
        connection.sendall(answer(GOOD, Content_Length=str(len(GOOD) + 10)))
        server.stop.wait(LONGEST_S)
        return False
    elif name == "reset":
        _reset(connection)
        return False
    elif name == "reset_late":
        _reset(connection, answer(GOOD, Content_Length="100000"))
        return False
    elif name.startswith("once_") and server.asked[name] == 1:
        status = {"once_500": "500 Internal Server Error", "once_429": "429 Too Many Requests"}.get(name)
        if status is None:
            _reset(connection)
            return False
        connection.sendall(answer(b"no", status, Retry_After="0.3" if "429" in name else ""))
    elif name.startswith("slow_"):
        time.sleep(0.1)
        connection.sendall(answer())
    else:
        connection.sendall(answer())
    return True


def _serve_connection(server: Hostile, connection: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.settimeout(LONGEST_S)
        received = b""
        while not server.stop.is_set():
            while b"\r\n\r\n" not in received:
                piece = connection.recv(65536)
                if not piece:
                    return
                received += piece
            head, _, received = received.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            path = first.split()[1]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            name = path.lstrip("/").partition("?")[0]
            host = headers["host"]
            with server.lock:
                server.seen.append((time.monotonic(), path, headers))
                server.asked[name] += 1
                server.now[host] += 1
                server.most_at_once[host] = max(server.most_at_once[host], server.now[host])
            try:
                if not _respond(server, connection, path):
                    return
            finally:
                with server.lock:
                    server.now[host] -= 1


@contextmanager
def hostile(**settings: object) -> Iterator[Hostile]:
    server = Hostile(**settings)  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server.port = listener.getsockname()[1]

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve_connection, args=(server, connection), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)
