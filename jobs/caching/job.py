"""The job behind `editmill cache`: look what is missing, have it made, and vouch for the whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.caching.config import CacheConfig
from jobs.caching.plan import identity_of, shard_works
from jobs.caching.runners import Worker, cached_here, cached_on_ray
from jobs.run_folder import RunFolder
from schemas.atomic import remove_partials, sha256_of, write_whole
from schemas.errors import InputError
from trainer.cache.card import CacheCard, ShardCommit, StoredFile, read_card, read_commit, write_card
from trainer.cache.identity import CacheIdentity
from trainer.cache.layout import INDEX, INDEX_NAME, SHARD_FOLDER, SUFFIX
from trainer.cache.write import ShardWork, commit_path

Progress = Callable[[int, int], None]
"""Called with shards done and shards in all."""


@dataclass(frozen=True)
class CacheReport:
    """What a run came to.

    Args:
        folder: of the cache.
        card: what it holds.
        done_now: shards that this run did; the others stood there.
        seconds: wall time of this run.
    """

    folder: Path
    card: CacheCard
    done_now: int
    seconds: float

    @property
    def bytes(self) -> int:
        """Of the numbers."""
        return sum(file.bytes for file in self.card.shards.values())


def cache(config: CacheConfig, progress: Progress | None = None) -> CacheReport:
    """Make a cache, or go on where an earlier run was ended; a finished one is left as it is.

    Raises:
        EditmillError: a wrong packed folder or model, before anything is made; an error of a worker, later. What was
            committed stays.
    """
    start = time.monotonic()
    works = shard_works(config)
    identity = identity_of(config)
    packed = config.packed.absolute()
    folder = packed.with_name(packed.name + SUFFIX) / identity.mark()
    with RunFolder(folder).locked():
        (folder / SHARD_FOLDER).mkdir(exist_ok=True)
        commits = {work.name: read_commit(commit_path(folder, work.name), folder) for work in works}
        pending = [work for work in works if commits[work.name] is None]
        former = read_card(folder)
        if not pending and former is not None and _is_whole(former, folder, works):
            return CacheReport(folder, former, 0, time.monotonic() - start)
        write_card(folder, CacheCard(status="running", identity=identity, packed=str(packed)))
        remove_partials(folder / SHARD_FOLDER)
        told = progress or (lambda done, shards: None)
        told(len(works) - len(pending), len(works))
        with ExitStack() as session:
            worker = Worker(config.model, identity, folder, config.device, config.batch_size)
            made = cached_here(worker, pending)
            if config.runner.kind == "ray" and pending:
                from jobs.runners.ray_session import ray_session

                session.enter_context(ray_session(config.runner))
                made = cached_on_ray(worker, pending, config)
            for number, commit in enumerate(made, start=1):
                commits[commit.shard] = commit
                told(len(works) - len(pending) + number, len(works))
        card = _finish(folder, identity, packed, [commits[work.name] for work in works])
    return CacheReport(folder, card, len(pending), time.monotonic() - start)


def _is_whole(card: CacheCard, folder: Path, works: Sequence[ShardWork]) -> bool:
    named = {work.name for work in works}
    return (
        card.status == "finished" and set(card.shards) == named and card.index is not None and card.index.stands(folder)
    )


def _finish(folder: Path, identity: CacheIdentity, packed: Path, commits: Sequence[ShardCommit | None]) -> CacheCard:
    """Write the index of all shards, and the card that vouches for it, last."""
    rejected: Counter[str] = Counter()
    done: list[ShardCommit] = []
    path = folder / INDEX_NAME
    with write_whole(path) as stream, pq.ParquetWriter(stream, INDEX, compression="zstd") as writer:
        for commit in commits:
            if commit is None:
                raise InputError("cache", str(folder), "a shard was not committed", "Run the same command again.")
            done.append(commit)
            rejected.update(commit.rejected)
            rows: pa.Table = pq.read_table(folder / commit.rows.name, schema=INDEX)
            writer.write_table(rows)
    card = CacheCard(
        status="finished",
        identity=identity,
        packed=str(packed),
        samples=sum(commit.samples for commit in done),
        stored=sum(commit.stored for commit in done),
        rejected=dict(sorted(rejected.items())),
        shards={commit.shard: commit.values for commit in done},
        index=StoredFile(name=INDEX_NAME, bytes=path.stat().st_size, sha256=sha256_of(path)),
        widths=done[0].widths,
    )
    write_card(folder, card)
    return card
