"""The `fetch` step: each row's image, from where its `url` says."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pyarrow as pa

from pipelines.fetch.client import tls_context
from pipelines.fetch.config import FetchConfig
from pipelines.fetch.content import check_declared
from pipelines.fetch.fetcher import Fetched, fetch_batch
from pipelines.fetch.hosts import HostBook
from pipelines.fetch.names import GetAddressInfo, system_addresses
from pipelines.step import Step, StepResult, set_column
from schemas.config import Config
from schemas.errors import RowRejected
from schemas.outcomes import rejections
from schemas.records import IMAGE_RECORD

_ADDED = ("image", "width", "height", "sha256")
_MOST_LOOKERS = 4


class Fetch(Step[FetchConfig]):
    """Fetches `url` into `image`, with the upright image's real size and its SHA-256. A row without a whole image is
    rejected; `pipelines.fetch.faults.REASONS` lists the reasons. Bytes stay as they came.

    Args:
        look_up: resolves host names.
    """

    name: ClassVar[str] = "fetch"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Config]] = FetchConfig
    needs: ClassVar[tuple[str, ...]] = ("url",)
    adds: ClassVar[pa.Schema] = pa.schema([IMAGE_RECORD.fields.field(name) for name in _ADDED])

    def __init__(self, config: FetchConfig, look_up: GetAddressInfo = system_addresses) -> None:
        super().__init__(config)
        self._look_up = look_up

    def setup(self) -> None:
        """What outlives a batch: what is known of hosts, and the certificates."""
        self._book = HostBook()
        self._tls = tls_context(self.config)

    def identity(self) -> dict[str, Any]:
        """Without what only decides how fast images come."""
        return {"step": self.name, "version": self.version, "config": self.config.decisive()}

    def process(self, table: pa.Table) -> StepResult:
        """Fetch the batch, all rows at once within the config's limits."""
        outcomes = self._fetch(table["url"].to_pylist())
        nothing = [None] * table.num_rows
        declared = [table[name].to_pylist() if name in table.column_names else nothing for name in ("sha256", "md5")]
        kept: list[int] = []
        images: list[Fetched] = []
        rejected: list[tuple[str, str, str]] = []
        for place, (outcome, sha256, md5) in enumerate(zip(outcomes, *declared, strict=True)):
            try:
                if isinstance(outcome, RowRejected):
                    raise outcome
                check_declared(outcome.content, sha256, md5)
            except RowRejected as rejection:
                rejected.append((table["key"][place].as_py(), rejection.reason, rejection.sentence))
            else:
                kept.append(place)
                images.append(outcome)
        result = table.take(pa.array(kept, pa.int64())) if rejected else table
        columns = {
            "image": [{"bytes": image.content.data, "path": image.name} for image in images],
            "width": [image.content.width for image in images],
            "height": [image.content.height for image in images],
            "sha256": [image.content.sha256 for image in images],
        }
        for field in self.adds:
            result = set_column(result, field, pa.array(columns[field.name], field.type))
        keys, reasons, sentences = zip(*rejected, strict=True) if rejected else ((), (), ())
        return StepResult(result, rejections(self.name, self.version, keys, reasons, sentences))

    def _fetch(self, urls: list[str | None]) -> list[Fetched | RowRejected]:
        lookers = ThreadPoolExecutor(min(_MOST_LOOKERS, os.cpu_count() or 1), thread_name_prefix="fetch-look")
        with lookers:
            work = fetch_batch(urls, self.config, self._book, self._look_up, self._tls, lookers)
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return asyncio.run(work)
            # A caller that has an event loop already (a notebook, an async actor) waits for one in another thread.
            with ThreadPoolExecutor(1) as own_thread:
                return own_thread.submit(asyncio.run, work).result()
