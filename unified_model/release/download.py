"""Where a checkpoint lies: here, or under a hub name, from which it is fetched once."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from schemas.errors import InputError

FILES = ("*.json", "*.jinja", "*.txt", "model*.safetensors")
"""What of the release's repository is needed."""


def release_folder(source: str) -> Path:
    """The folder of a release.

    Args:
        source: a folder, or a hub name ("LanguageBind/UniWorld-V1").

    Raises:
        InputError: neither, or it cannot be fetched.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(source, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise _not_found("release", source, error) from error


def weights_place(source: str) -> Path:
    """The file or folder of a few weights.

    Args:
        source: a file, a folder, or a file under a hub name ("LanguageBind/UniWorld-V1/flux-redux-siglipv2-512.bin").

    Raises:
        InputError: none of these, or it cannot be fetched.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    owner, _, rest = source.partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise InputError("weights", source, "is no file, and no file under a hub name either", "Check the path.")
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise _not_found("weights", source, error) from error


def _not_found(field: str, source: str, error: Exception) -> InputError:
    return InputError(
        field, source, f"is not here, and cannot be fetched from the hub ({error})", "Check the path, or the network."
    )
