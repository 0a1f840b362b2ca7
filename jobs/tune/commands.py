"""What is typed at the prompt of a tuning session, and what it does."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from jobs.commands.options import mapping
from jobs.tune.session import PAGE_NAME, TuneSession
from jobs.tune.settings import Settings
from schemas.errors import ConfigError

HELP = """\
name=value [name=value ...]  set parameters, and draw again
recipe NAME                  another recipe (robust, seed, uniworld), at its defaults
defaults                     all parameters back to their defaults
parameters                   every parameter: value, default, range, what it means
next                         other pairs
page [FOLDER]                write tune.html, now and after every change
save FILE.yaml               write the step masks for a pipeline config
help                         this
quit, or an empty line       end"""


class Effect(StrEnum):
    """What is to be shown after a command."""

    DRAWN = "drawn"
    PARAMETERS = "parameters"
    TOLD = "told"
    END = "end"


@dataclass(frozen=True)
class Answer:
    """What a command came to; `text` is told to the person, if there is any."""

    effect: Effect
    text: str = ""


def answer(session: TuneSession, line: str) -> Answer:
    """Do what `line` says.

    Raises:
        EditmillError: the line is no command, or one that cannot be done; the session is as before.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError("command", line, f"cannot be read ({error})", "Close the quotes.") from error
    if not words:
        return Answer(Effect.END)
    if all("=" in word for word in words):
        return _set(session, words)
    name, *rest = words
    known = _COMMANDS.get(name)
    if known is None:
        raise ConfigError("command", line, "is no command", "Type name=value, or help.")
    least, most, act = known
    if not least <= len(rest) <= most:
        raise ConfigError(
            "command", line, f"takes {least if least == most else 'at most 1'} word behind it", "Type help."
        )
    return act(session, rest)


def _set(session: TuneSession, words: list[str]) -> Answer:
    session.change(session.settings.with_values(mapping("parameter", words)))
    return Answer(Effect.DRAWN)


def _recipe(session: TuneSession, words: list[str]) -> Answer:
    session.change(Settings(words[0]))
    return Answer(Effect.DRAWN)


def _defaults(session: TuneSession, words: list[str]) -> Answer:
    session.change(Settings(session.settings.recipe))
    return Answer(Effect.DRAWN)


def _next(session: TuneSession, words: list[str]) -> Answer:
    session.next_pairs()
    return Answer(Effect.DRAWN)


def _page(session: TuneSession, words: list[str]) -> Answer:
    session.page = Path(*words) / PAGE_NAME
    session.write_page(reloads=True)
    return Answer(Effect.TOLD, f"page: {session.page} (left open, it follows what you change)")


def _save(session: TuneSession, words: list[str]) -> Answer:
    session.save(Path(words[0]))
    return Answer(Effect.TOLD, f"saved: {words[0]}")


_COMMANDS: dict[str, tuple[int, int, Callable[[TuneSession, list[str]], Answer]]] = {
    "recipe": (1, 1, _recipe),
    "defaults": (0, 0, _defaults),
    "parameters": (0, 0, lambda session, words: Answer(Effect.PARAMETERS)),
    "next": (0, 0, _next),
    "page": (0, 1, _page),
    "save": (1, 1, _save),
    "help": (0, 0, lambda session, words: Answer(Effect.TOLD, HELP)),
    "quit": (0, 0, lambda session, words: Answer(Effect.END)),
    "exit": (0, 0, lambda session, words: Answer(Effect.END)),
}
"""Name -> least and most words behind it, and what it does."""
