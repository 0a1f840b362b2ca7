"""A single tar shard, of editmill or of anybody: samples are the members whose names agree up to the first dot."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from schemas.errors import InputError, ShardError

_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error)
_MEND = "Fetch the file again."


def tar_keys(path: Path) -> list[str]:
    """Keys of the samples, in order, each once; reads headers only.

    Raises:
        ShardError: it is no tar, or is cut off.
    """
    with _opened(path) as tar:
        return list(dict.fromkeys(key for info in tar if info.isfile() and (key := _split(info.name)[0])))


def tar_members(path: Path, key: str | None = None) -> tuple[str, dict[str, bytes]]:
    """(key, name after the key and its dot -> bytes) of a sample: the one called `key`, or the first.

    Raises:
        InputError: there is no sample in it, or none with this key.
        ShardError: it is no tar, or is cut off.
    """
    members: dict[str, bytes] = {}
    with _opened(path) as tar:
        for info in tar:
            found, suffix = _split(info.name)
            if not info.isfile() or not found:
                continue
            if key is None:
                key = found
            if found == key:
                stream = tar.extractfile(info)
                data = b"" if stream is None else stream.read()
                if len(data) < info.size:
                    raise ShardError(path.name, info.name, "is cut off", _MEND)
                members[suffix] = data
            elif members:
                break
    if key is None or not members:
        raise InputError("shard", str(path), "holds no sample" if key is None else f"holds no sample {key}", _MEND)
    return key, members


def is_ours(members: dict[str, bytes]) -> bool:
    """Whether a sample's .json member says that editmill packed it."""
    try:
        values = json.loads(members.get("json", b"null"))
    except ValueError:
        return False
    return isinstance(values, dict) and {"schema", "schema_version", "paths"} <= set(values)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:*") as tar:
            yield tar
    except _ERRORS as error:
        raise ShardError(path.name, str(error), "cannot be read as a tar", _MEND) from error


def _split(name: str) -> tuple[str, str]:
    """(key, suffix): the name up to the first dot of its last part, and what follows, as WebDataset has it."""
    whole = PurePosixPath(name)
    stem, _, suffix = whole.name.partition(".")
    return (str(whole.with_name(stem)) if stem else ""), suffix
