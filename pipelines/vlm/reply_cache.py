"""Replies kept on disk, so that no question is paid for twice: not after a restart, not by another worker.

One small file a reply, named by the hash of all that decides it: the images' hashes, the model and its revision, every
text of the prompt, the parameters. A file appears under its name only when it is whole, so that any number of writers
on any number of machines may share the folder; nothing is ever locked. A file that is no longer what was written is a
miss.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.vlm.backend import Reply, Request
from schemas.atomic import PARTIAL_SUFFIX, canonical_json, writing
from schemas.errors import InputError

FORMAT = 1
"""Version of the files and of what their names are made of. Raised, it makes all that was kept unused."""
LARGEST_FILE = 16 * 2**20
"""A file of more bytes is no reply of ours and is not read."""


def request_key(request: Request, decisive: Mapping[str, Any]) -> str:
    """64 hexadecimal digits that two requests share exactly if the same reply answers both.

    Args:
        decisive: what else decides the reply, as JSON-able values: model, revision, generation parameters.
    """
    parts = [part if isinstance(part, str) else {"image": hashlib.sha256(part).hexdigest()} for part in request.parts]
    asked = {"system": request.system, "parts": parts, "turns": request.turns, "schema": request.schema}
    return hashlib.sha256(canonical_json([FORMAT, asked, dict(decisive)]).encode()).hexdigest()


class ReplyCache:
    """A folder of replies.

    Args:
        folder: made with the first reply; may be shared by runs, workers and machines.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the reply with this key lies."""
        return self.folder / key[:2] / f"{key[2:]}.json"

    def get(self, key: str) -> Reply | None:
        """The reply with this key, or None where there is none or its file is damaged.

        Raises:
            InputError: the file cannot be read.
        """
        path = self.path(key)
        try:
            with path.open("rb") as stream:
                data = stream.read(LARGEST_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            mend = "Make it readable, or name another cache."
            raise InputError("cache", str(path), f"cannot be read ({error.strerror})", mend) from error
        return _parse(data, key) if len(data) <= LARGEST_FILE else None

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; one that is there already is replaced.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path(key)
        content = {
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        value = {"format": FORMAT, "key": key, "reply": content, "sha256": _digest(content)}
        # A name of its own for each writer: process ids repeat over machines.
        aside = path.with_name(f".{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with aside.open("wb") as stream:
                    stream.write(canonical_json(value).encode("utf-8", "surrogatepass"))
                    stream.flush()
                    os.fsync(stream.fileno())
                aside.replace(path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    aside.unlink()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(dict(content)).encode("utf-8", "surrogatepass")).hexdigest()


def _parse(data: bytes, key: str) -> Reply | None:
    try:
        value = json.loads(data)
        content = value["reply"]
        if (value["format"], value["key"], value["sha256"]) != (FORMAT, key, _digest(content)):
            return None
        return Reply(**content)
    except (ValueError, KeyError, TypeError):
        return None
