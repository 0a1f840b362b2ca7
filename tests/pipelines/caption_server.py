"""A loopback OpenAI-compatible endpoint for tests, which misbehaves on purpose for the images it is told to.

Where a request shows several images, it is the last that tells what to do.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = "A red square stands on a plain green background."


USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def completion(text: Any = GOOD, finish_reason: Any = "stop", usage: Any = USAGE) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


@dataclass
class Endpoint:
    """The server's address, what it does for which image, and what it saw."""

    url: str = ""
    behaviours: dict[bytes, str] = field(default_factory=dict)
    """Image bytes -> behaviour; images not listed are answered well."""
    good: str = GOOD
    """What a good answer says."""
    texts: dict[bytes, str] = field(default_factory=dict)
    """Image bytes -> what a good answer says of that one."""
    key: str | None = None
    """The only key accepted, if any."""
    listing_drips: bool = False
    """Whether GET /models never comes to its end."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    attempts: Counter[bytes] = field(default_factory=Counter)
    times: dict[bytes, list[float]] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


ANSWERS: dict[str, tuple[int, bytes]] = {
    "always_500": (500, b"internal error"),
    "bad_request": (400, b'{"error": "image too large"}'),
    "truncated_json": (200, completion()[:40]),
    "wrong_schema": (200, b'{"choices": []}'),
    "wrong_types": (200, completion(finish_reason=7)),
    "no_json": (200, b"<html>Bad gateway</html>"),
    "empty": (200, completion("  \n")),
    "null": (200, completion(None)),
    "cut_off": (200, completion("A red square stands on", "length")),
    "filtered": (200, completion("", "content_filter")),
    "too_short": (200, completion("Red.")),
    "too_long": (200, completion("red " * 1000)),
    "no_usage": (200, completion(usage=None)),
    "control": (200, completion("A red\u0000 square on a green background.")),
}


@contextmanager
def serve(**settings: Any) -> Iterator[Endpoint]:
    endpoint = Endpoint(**settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            return

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if endpoint.key and self.headers.get("Authorization") != f"Bearer {endpoint.key}":
                self.answer(401, b"{}")
            elif self.path == "/v1/models" and endpoint.listing_drips:
                self.drip("drip_body")
            elif self.path == "/v1/models":
                self.answer(200, b'{"object": "list", "data": [{"id": "tiny-vlm"}]}')
            else:
                self.answer(404, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            parts = next(message["content"] for message in body["messages"] if message["role"] == "user")
            url = [part for part in parts if part["type"] == "image_url"][-1]["image_url"]["url"]
            image = base64.b64decode(url.partition("base64,")[2])
            with endpoint.lock:
                endpoint.requests.append(body)
                endpoint.images.append(image)
                endpoint.attempts[image] += 1
                endpoint.times.setdefault(image, []).append(time.monotonic())
                endpoint.in_flight += 1
                endpoint.most_in_flight = max(endpoint.most_in_flight, endpoint.in_flight)
            try:
                good = completion(endpoint.texts.get(image, endpoint.good))
                self.behave(endpoint.behaviours.get(image, "good"), endpoint.attempts[image], good)
            finally:
                with endpoint.lock:
                    endpoint.in_flight -= 1

        def behave(self, behaviour: str, attempt: int, good: bytes) -> None:
            if behaviour in ANSWERS:
                self.answer(*ANSWERS[behaviour])
            elif behaviour == "once_500" and attempt == 1:
                self.answer(500, b"once")
            elif behaviour == "once_429" and attempt == 1:
                self.answer(429, b"busy", Retry_After="0.4")
            elif behaviour == "once_faulty" and attempt == 1:
                self.answer(200, completion("A. "))
            elif behaviour == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                os.close(self.connection.detach())
            elif behaviour == "huge":
                self.huge()
            elif behaviour == "busy":
                self.answer(429, b"busy", Retry_After="30")
            elif behaviour == "hang_up":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"{")
                self.close_connection = True
            elif behaviour in ("drip_body", "drip_head"):
                self.drip(behaviour)
            elif behaviour == "slow":
                time.sleep(0.15)
                self.answer(200, good)
            else:
                self.answer(200, good)

        def huge(self) -> None:
            """A body that never ends, as fast as it is taken."""
            self.close_connection = True
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                return

        def drip(self, behaviour: str) -> None:
            """A byte now and then, each well within any timeout for a single read."""
            self.close_connection = True
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"
            try:
                if behaviour == "drip_body":
                    self.wfile.write(head + b"\r\n")
                for _ in range(60):
                    self.wfile.write(b" " if behaviour == "drip_body" else b"X-A: b\r\n")
                    self.wfile.flush()
                    time.sleep(0.1)
            except OSError:
                return

    class Server(ThreadingHTTPServer):
        # The default of 5 drops some of many connections that come at once, and the kernel asks again a second later.
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Quiet: clients leave early on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
