"""The trainer's own error."""

from __future__ import annotations

from schemas.errors import EditmillError


class TrainingStopped(EditmillError):
    """Training ran and could not go on: a non-finite loss, or too many bad samples. Exit code 1."""
