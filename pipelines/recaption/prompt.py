"""Prompts as versioned files, so that a caption can name, to the byte, what the model was asked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from schemas.config import Config, parse_config, read_yaml
from schemas.errors import ConfigError, InputError

_PROMPTS = Path(__file__).parent / "prompts"


class PromptFile(Config):
    """The content of a prompt file, which is called NAME.vVERSION.yaml."""

    name: str = Field(min_length=1)
    """Stored with each caption."""
    version: int = Field(ge=1)
    """Raised with each change; stored with each caption."""
    kind: Literal["long", "short"]
    """Kind of the captions it asks for."""
    system: str = ""
    """The system message; empty for none."""
    user: str = Field(min_length=1)
    """What the model is asked, beside the image."""
    min_characters: int = Field(default=1, ge=1)
    """Shortest reply accepted, inclusive."""
    max_characters: int = Field(ge=1)
    """Longest reply accepted, inclusive."""

    @model_validator(mode="after")
    def _limits_fit(self) -> PromptFile:
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} is above max_characters {self.max_characters}")
        return self


class Prompt(Config):
    """A prompt and the hash of the file it came from."""

    file: PromptFile
    sha256: str
    """Of the file's bytes, hexadecimal."""


def load_prompt(name_or_path: str) -> Prompt:
    """A prompt that comes with editmill, by its name (`caption_long.v1`), or the one in a YAML file.

    Raises:
        ConfigError: no such prompt; the file breaks a rule, or is not called NAME.vVERSION.yaml after its content.
        InputError: the file cannot be read.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return _load(Path(name_or_path))
    known = sorted(path.stem for path in _PROMPTS.glob("*.yaml"))
    if name_or_path not in known:
        mend = f"Known: {', '.join(known)}; or give the path of a .yaml file."
        raise ConfigError("prompt", name_or_path, "is no prompt of editmill's", mend)
    return _load(_PROMPTS / f"{name_or_path}.yaml")


def _load(path: Path) -> Prompt:
    file = parse_config(PromptFile, read_yaml(path), str(path))
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
