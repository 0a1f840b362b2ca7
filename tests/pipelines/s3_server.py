"""A loopback server that speaks enough of S3's protocol to read: a folder of this machine as the bucket `data`.

HEAD and GET of objects with ranges, HEAD of the bucket, and ListObjectsV2 with prefix, delimiter and pages; signatures
are not looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "data"
PAGE = 2
"""Entries of a listing's page: few, so that listings have several."""


@contextmanager
def serve_s3(folder: Path) -> Iterator[str]:
    """`HOST:PORT` of a server with the files below `folder` in its bucket."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: else each reply waits for the other side to say that the head came.
        wbufsize = 1 << 20

        def log_message(self, *arguments: Any) -> None:
            return

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if bucket != BUCKET:
                self.fault(404, "NoSuchBucket")
            elif "list-type" in query:
                self.answer(200, self.listing(query), {"Content-Type": "application/xml"})
            elif not key:
                self.answer(200, b"", {})
            elif (folder / key).is_file():
                self.object(folder / key)
            else:
                self.fault(404, "NoSuchKey")

        def object(self, path: Path) -> None:
            data = path.read_bytes()
            headers = {"ETag": f'"{len(data)}"', "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}
            wanted = self.headers.get("Range")
            if wanted is None:
                self.answer(200, data, headers)
                return
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(data) - 1), len(data) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            self.answer(206, data[start:stop], headers)

        def listing(self, query: dict[str, str]) -> bytes:
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
            entries: dict[str, Path | None] = {}
            for path in sorted(found for found in folder.rglob("*") if found.is_file()):
                key = path.relative_to(folder).as_posix()
                if key.startswith(prefix):
                    inner, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                    entries[prefix + inner + found if found else key] = None if found else path
            names = sorted(entries)
            start = int(query.get("continuation-token", "0"))
            page = names[start : start + min(PAGE, int(query.get("max-keys", "1000")))]
            more = start + len(page) < len(names)
            lines = [f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"]
            lines.append(f"<IsTruncated>{str(more).lower()}</IsTruncated>")
            lines += [f"<NextContinuationToken>{start + len(page)}</NextContinuationToken>"] if more else []
            for name in page:
                path = entries[name]
                if path is None:
                    lines.append(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>")
                    continue
                size = f"<Size>{path.stat().st_size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                lines.append(f"<Contents><Key>{escape(name)}</Key>{size}</Contents>")
            body = "".join(lines)
            return f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>{body}</ListBucketResult>'.encode()

        def fault(self, status: int, code: str) -> None:
            self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode(), {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "x-amz-request-id": "1", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
