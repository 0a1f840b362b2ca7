"""Is a packed folder what its manifest says? Every fault is told, not only the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from pipelines.shards.contents import parquet_faults, tar_faults
from pipelines.shards.faults import Fault, FaultKind
from pipelines.shards.read import read_index, record_of
from schemas.atomic import PARTIAL_SUFFIX, sha256_of
from schemas.errors import InputError, SchemaError, SchemaVersionError, ShardError
from schemas.layout import CARD_NAME, INDEX_NAME, MANIFEST_NAME, PARQUET_FOLDER, WEBDATASET_FOLDER
from schemas.manifest import FileEntry, ShardManifest, manifest_checksum, read_manifest

Progress = Callable[[int, int], None]
"""Called as (bytes read, bytes to read)."""

_FOLDERS = {"webdataset": WEBDATASET_FOLDER, "parquet": PARQUET_FOLDER}
_COLUMNS = {"webdataset": "shard", "parquet": "parquet_shard"}
_TRACES = (INDEX_NAME, WEBDATASET_FOLDER, PARQUET_FOLDER, ".work")


def validate(folder: Path, deep: bool = True, progress: Progress | None = None) -> list[Fault]:
    """Everything wrong with a packed folder; an empty list where nothing is.

    Args:
        deep: also read every sample and hold it against the index; otherwise files are hashed and counted only.
        progress: told how far the hashing is.

    Returns:
        Faults in the order: manifest, files, index, contents.

    Raises:
        InputError: `folder` is no packed folder at all.
    """
    if not folder.is_dir():
        raise InputError("shards", str(folder), "is no folder", "Name a folder that `editmill pack` made.")
    try:
        manifest = read_manifest(folder)
    except InputError:
        if not any((folder / name).exists() for name in _TRACES):
            raise
        sentence = "there is no manifest: packing did not come to its end, or the file was lost"
        return [Fault(MANIFEST_NAME, FaultKind.MANIFEST, sentence)]
    except SchemaVersionError as error:
        return [Fault(MANIFEST_NAME, FaultKind.SCHEMA_VERSION, str(error))]
    except ShardError as error:
        return [Fault(MANIFEST_NAME, FaultKind.MANIFEST, str(error))]
    faults = [*_manifest_faults(manifest)]
    if any(fault.kind is FaultKind.MANIFEST for fault in faults):
        return faults
    faults += [*_unlisted(folder, manifest), *_file_faults(folder, manifest, progress)]
    index = _index(folder, manifest, faults)
    if index is not None:
        faults += _index_faults(index, manifest)
    if deep:
        faults += _content_faults(folder, manifest, index)
    return faults


def _manifest_faults(manifest: ShardManifest) -> Iterator[Fault]:
    record = record_of(manifest)
    if manifest.record_version > record.version:
        sentence = f"{record.name} version {manifest.record_version}; this editmill knows up to {record.version}"
        yield Fault(MANIFEST_NAME, FaultKind.SCHEMA_VERSION, sentence)
    if manifest.checksum != manifest_checksum(manifest.as_json()):
        yield Fault(MANIFEST_NAME, FaultKind.HASH, "altered: its values do not have the checksum that it states")
    for entry in (*manifest.shards, manifest.index):
        parent, _, name = entry.name.rpartition("/")
        if parent != _FOLDERS.get(entry.format, "") or name in ("", ".", ".."):
            yield Fault(entry.name, FaultKind.MANIFEST, f"the manifest lists it as {entry.format}, where none can be")
    repeated = [name for name, times in Counter(entry.name for entry in manifest.shards).items() if times > 1]
    for name in repeated:
        yield Fault(name, FaultKind.MANIFEST, "the manifest lists it more than once")
    rejected = sum(manifest.rejected.values())
    if manifest.rows_in != manifest.kept + rejected:
        sentence = f"rows in {manifest.rows_in} is not kept {manifest.kept} + rejected {rejected}"
        yield Fault(MANIFEST_NAME, FaultKind.COUNTS, sentence)
    totals = {"index": manifest.index.samples}
    for entry in manifest.shards:
        totals[entry.format] = totals.get(entry.format, 0) + entry.samples
    for form, samples in totals.items():
        if samples != manifest.kept:
            sentence = f"{form} holds {samples} samples by the manifest, which says that {manifest.kept} were kept"
            yield Fault(MANIFEST_NAME, FaultKind.COUNTS, sentence)
    yield from _told_faults(manifest)


def _told_faults(manifest: ShardManifest) -> Iterator[Fault]:
    """What the manifest tells of subsets and earlier steps must add up too."""
    if manifest.subsets is not None and sum(manifest.subsets.values()) != manifest.kept:
        sentence = f"the subsets hold {sum(manifest.subsets.values())} samples, {manifest.kept} were kept"
        yield Fault(MANIFEST_NAME, FaultKind.COUNTS, sentence)
    for step in manifest.history or ():
        if step.rows_in != step.kept + sum(step.rejected.values()):
            sentence = f"step {step.name}: rows in {step.rows_in} is not kept {step.kept} + the rejected"
            yield Fault(MANIFEST_NAME, FaultKind.COUNTS, sentence)


def _unlisted(folder: Path, manifest: ShardManifest) -> Iterator[Fault]:
    # The card is for people, who may complete it; all that it tells stands in the manifest.
    listed = {MANIFEST_NAME, CARD_NAME, manifest.index.name, *(entry.name for entry in manifest.shards)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name in listed:
            continue
        if path.name.endswith(PARTIAL_SUFFIX) or name.startswith(".work/"):
            yield Fault(name, FaultKind.UNFINISHED, "left by a packing that was killed; packing again removes it")
        else:
            yield Fault(name, FaultKind.UNLISTED, "the manifest does not list it")


def _file_faults(folder: Path, manifest: ShardManifest, progress: Progress | None) -> Iterator[Fault]:
    entries = (*manifest.shards, manifest.index)
    total = sum(entry.bytes for entry in entries)
    done = 0
    for entry in entries:
        path = folder / entry.name
        try:
            yield from _file_fault(path, entry)
        except OSError as error:
            yield Fault(entry.name, FaultKind.DAMAGED, f"cannot be read ({error})")
        done += entry.bytes
        if progress is not None:
            progress(done, total)


def _file_fault(path: Path, entry: FileEntry) -> Iterator[Fault]:
    if not path.is_file():
        yield Fault(entry.name, FaultKind.MISSING, "the manifest lists it, and it is not there")
        return
    size = path.stat().st_size
    if size != entry.bytes:
        how = "cut off" if size < entry.bytes else "too long"
        yield Fault(entry.name, FaultKind.SIZE, f"{how}: {size} bytes, the manifest says {entry.bytes}")
        return
    found = sha256_of(path)
    if found != entry.sha256:
        sentence = f"altered: SHA-256 {found[:12]}..., the manifest says {entry.sha256[:12]}..."
        yield Fault(entry.name, FaultKind.HASH, sentence)


def _index(folder: Path, manifest: ShardManifest, faults: list[Fault]) -> pa.Table | None:
    name = manifest.index.name
    if any(fault.file == name and fault.kind is FaultKind.MISSING for fault in faults):
        return None
    try:
        return read_index(folder, manifest.index)
    except SchemaVersionError as error:
        faults.append(Fault(name, FaultKind.SCHEMA_VERSION, str(error)))
    except (SchemaError, ShardError) as error:
        faults.append(Fault(name, FaultKind.DAMAGED, str(error)))
    return None


def _index_faults(index: pa.Table, manifest: ShardManifest) -> Iterator[Fault]:
    name = manifest.index.name
    if index.num_rows != manifest.index.samples:
        sentence = f"{index.num_rows} rows, the manifest says {manifest.index.samples}"
        yield Fault(name, FaultKind.COUNTS, sentence)
    repeated = [key for key, times in Counter(index["key"].to_pylist()).items() if times > 1]
    if repeated:
        yield Fault(name, FaultKind.INDEX, f"{len(repeated)} keys stand twice, the first is {repeated[0]}")
    if manifest.subsets is not None:
        names = index["subset"].to_pylist() if "subset" in index.column_names else []
        if Counter(names) != Counter(manifest.subsets):
            yield Fault(name, FaultKind.INDEX, "its subsets have other numbers of samples than the manifest says")
    for form, column in _COLUMNS.items():
        counted = Counter(index[column].to_pylist())
        listed = [entry for entry in manifest.shards if entry.format == form]
        if not listed:
            # Without tars `shard` names the Parquet shard, which `parquet_shard` names as well.
            continue
        for entry in listed:
            found = counted.pop(entry.name, 0)
            if found != entry.samples:
                sentence = f"the index has {found} rows for it, the manifest says {entry.samples} samples"
                yield Fault(entry.name, FaultKind.INDEX, sentence)
        for other, times in counted.items():
            yield Fault(name, FaultKind.INDEX, f"{times} rows name the {form} shard {other}, which is not listed")


def _content_faults(folder: Path, manifest: ShardManifest, index: pa.Table | None) -> Iterator[Fault]:
    record = record_of(manifest)
    places = {form: {} if index is None else _places(index[column]) for form, column in _COLUMNS.items()}
    for entry in manifest.shards:
        if not (folder / entry.name).is_file():
            continue
        places_here = pa.array(places[entry.format].get(entry.name, []), pa.int64())
        rows = None if index is None else index.take(places_here).to_pylist()
        look = tar_faults if entry.format == "webdataset" else parquet_faults
        yield from look(folder, entry, record, rows)


def _places(names: pa.ChunkedArray) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for position, name in enumerate(names.to_pylist()):
        places.setdefault(name, []).append(position)
    return places
