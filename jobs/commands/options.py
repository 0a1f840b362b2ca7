"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class RunnerKind(StrEnum):
    """Where a job runs."""

    in_process = "in_process"
    ray = "ray"


Runner = Annotated[
    RunnerKind | None,
    typer.Option(
        help="Where it runs, with the same results: here (default), or on Ray (where --workers or --address is given).",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Ray: how many cores to use; by default all of the machine or cluster.")
]
Address = Annotated[str | None, typer.Option(help="Ray: the cluster to join ('auto', 'ray://host:10001').")]
RunFolderOption = Annotated[
    Path, typer.Option(help="Run folder to write; run again on the same one to go on.", show_default=False)
]


def runner_values(runner: RunnerKind | None, workers: int | None, address: str | None) -> dict[str, Any]:
    """The `runner` section of a pipeline config; without a runner, Ray where an option asks for what only Ray has."""
    asks_for_ray = workers is not None or address is not None
    kind = runner or (RunnerKind.ray if asks_for_ray else RunnerKind.in_process)
    return {"kind": kind.value, "workers": workers, "address": address}


def mapping(option: str, texts: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` texts as a mapping; values are read as YAML (numbers, true, lists).

    Raises:
        ConfigError: a text has no `=`, or its value is no YAML.
    """
    import yaml

    from schemas.errors import ConfigError

    values = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ConfigError(option, text, "must be NAME=VALUE", "Write for example threshold=20.")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(option, text, "has a value that is no YAML", "Quote it.") from error
    return values


def duration(seconds: float) -> str:
    """A time for people: seconds, minutes or hours, whichever reads best."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def cores_text(cores: int) -> str:
    """ "1 core", "64 cores"."""
    return f"{cores:,} core{'' if cores == 1 else 's'}"


_UNITS = {"": 2**30, "B": 1, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def size_in_bytes(option: str, text: str) -> int:
    """A size for machines: "80GiB", "24 GB"; a bare number is GiB.

    Raises:
        ConfigError: the text is no such size, or not above nought.
    """
    from schemas.errors import ConfigError

    number = text.strip().rstrip("BGIMTbgimt ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        size = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        size = 0.0
    if not 0.0 < size < 2**60:
        raise ConfigError(option, text, "must be a size above nought", "Write for example 80GiB.")
    return int(size)
