"""The `local_images` step: images that lie on a local or mounted disk, read into the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pydantic import Field

from pipelines.local_files import DEFAULT_MAX_BYTES, read_image, resolve_below
from pipelines.step import RowStep
from schemas.config import Config
from schemas.errors import InputError, RowRejected
from schemas.records import IMAGE_TYPE


class LocalImagesConfig(Config):
    """Where the images are."""

    root: str | None = None
    """Folder that relative names are relative to, and that no name may lead out of. Without it, names are absolute."""

    max_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1)
    """Largest file that is read, in bytes, inclusive."""


class LocalImages(RowStep[LocalImagesConfig]):
    """Read `url`, a `file://` address or a plain path, into `image`; the bytes stay as they are."""

    name: ClassVar[str] = "local_images"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = LocalImagesConfig
    needs: ClassVar[tuple[str, ...]] = ("url",)
    adds: ClassVar[pa.Schema] = pa.schema([pa.field("image", IMAGE_TYPE)])

    def preflight(self) -> None:
        """Look whether the root is there.

        Raises:
            InputError: it is not.
        """
        if self.config.root is not None and not Path(self.config.root).is_dir():
            raise InputError("local_images.root", self.config.root, "is no folder", "Name the folder of the images.")

    def process_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The image of one row.

        Raises:
            RowRejected: `url_missing`, `url_not_local`, `path_relative`, `image_outside`, and those of `read_image`.
        """
        name = _local_name(row["url"])
        if self.config.root is not None:
            path, remembered = resolve_below(Path(self.config.root), name, allow_outside=False)
        elif Path(name).is_absolute():
            path, remembered = Path(name), Path(name).name
        else:
            raise RowRejected("path_relative", f"'{name}' is relative, and no root is configured")
        return {"image": {"bytes": read_image(path, name, self.config.max_bytes), "path": remembered}}


def _local_name(url: str | None) -> str:
    if not url:
        raise RowRejected("url_missing", "the row has no address")
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise RowRejected("url_not_local", f"'{url}' is no address ({error})") from error
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise RowRejected("url_not_local", f"'{url}' is not on a local disk")
    return unquote(parts.path)
