"""Prompts as versioned files, so that what a model wrote can name, to the byte, what the model was asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import Field

from schemas.config import Config, parse_config, read_yaml
from schemas.errors import ConfigError, InputError


class PromptFile(Config):
    """What every prompt file holds; it is called NAME.vVERSION.yaml."""

    name: str = Field(min_length=1)
    """Stored with what the model wrote."""
    version: int = Field(ge=1)
    """Raised with each change; stored with what the model wrote."""
    system: str = ""
    """The system message; empty for none."""
    user: str = Field(min_length=1)
    """What the model is asked, beside the images."""


PromptFileT = TypeVar("PromptFileT", bound=PromptFile)


@dataclass(frozen=True)
class Prompt(Generic[PromptFileT]):
    """A prompt and where its text is pinned.

    Args:
        file: the content.
        sha256: of the file's bytes, hexadecimal.
    """

    file: PromptFileT
    sha256: str


def load_prompt_file(kind: type[PromptFileT], name_or_path: str, shipped: Path) -> Prompt[PromptFileT]:
    """A prompt that comes with editmill, by its name (`caption_long.v1`), or the one in a YAML file.

    Args:
        kind: what the file must hold.
        shipped: the folder of those that come with editmill.

    Raises:
        ConfigError: no such prompt; the file breaks a rule, or is not called NAME.vVERSION.yaml after its content.
        InputError: the file cannot be read.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return _load(kind, Path(name_or_path))
    known = sorted(path.stem for path in shipped.glob("*.yaml"))
    if name_or_path not in known:
        mend = f"Known: {', '.join(known)}; or give the path of a .yaml file."
        raise ConfigError("prompt", name_or_path, "is no prompt of editmill's", mend)
    return _load(kind, shipped / f"{name_or_path}.yaml")


def _load(kind: type[PromptFileT], path: Path) -> Prompt[PromptFileT]:
    file = parse_config(kind, read_yaml(path), str(path))
    expected = f"{file.name}.v{file.version}"
    if path.stem != expected:
        raise ConfigError(
            "prompt",
            path.name,
            f"must be called {expected}{path.suffix}, after its name and version",
            "Rename the file, or correct the two in it.",
        )
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError("prompt", str(path), f"cannot be read ({error})", "Check the path.") from error
    return Prompt(file=file, sha256=digest)
