"""Where the samples of one tar lie, so that a few of them can be read without the rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipelines.sources.split_tar import SplitTar, TarMember, members
from schemas.errors import InputError


@dataclass(frozen=True)
class SamplesIndex:
    """The members of a tar by sample.

    Args:
        samples: key (a name up to its first dot) -> extension in lower case -> member.
        fault: why the tar could not be read to its end, or None.
    """

    samples: dict[str, dict[str, TarMember]]
    fault: str | None


def samples_index(path: Path) -> SamplesIndex:
    """The index of the tar at `path`, from its headers alone; of a damaged or missing one, as far as it can be read."""
    try:
        status = path.stat()
    except OSError as error:
        return SamplesIndex({}, f"cannot be read ({error.strerror})")
    return _index(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _index(path: Path, size: int, changed_ns: int) -> SamplesIndex:
    """Remembered for as long as the file keeps its size and time of change."""
    samples: dict[str, dict[str, TarMember]] = {}
    fault = None
    try:
        for member in members(SplitTar(path.name, (path,), (size,))):
            key, _, extension = member.name.rpartition("/")[2].partition(".")
            samples.setdefault(key, {}).setdefault(extension.lower(), member)
    except InputError as error:
        fault = error.rule
    return SamplesIndex(samples, fault)
