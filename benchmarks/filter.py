"""`editmill filter` against DuckDB running the same predicate over the same files to the same output.

    python benchmarks/filter.py                      3, 10 and 30 million rows, made on the spot (109 bytes a row)
    python benchmarks/filter.py --millions 3 --repeats 5
    python benchmarks/filter.py --loose              bounds that a fifth of the rows meet, instead of one in a hundred
    python benchmarks/filter.py --no-ray --folder D  files are made below D and used again

Every measurement is a process of its own: seconds of the job itself, without imports and without Ray's start-up, which
is told apart; processor seconds of all its processes; and the peak of its memory above what it had before the job (on
Ray: of all of Ray's processes together, above what they had once started). Looking at memory takes time, so it has a
turn of its own, which is not timed. The ways take turns, and the least of each counts. DuckDB writes one Parquet file
of the same rows and columns, the key included (`duckdb`); `duckdb, no key` leaves the key out, which editmill's output
cannot do without. Both use all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import pyarrow.parquet as pq
from laion_like import write_laion_like

ISSUE = {
    "min_aesthetic": 6.0,
    "min_side": 512,
    "max_aspect": 2.0,
    "max_watermark": 0.5,
    "max_unsafe": 0.5,
    "min_similarity": 0.28,
}
LOOSE = {**ISSUE, "min_aesthetic": 4.5, "min_side": 300}
WAYS = ("duckdb", "duckdb, no key", "editmill", "editmill on Ray")


def run_duckdb(files: list[str], bounds: dict[str, float], output: Path, with_key: bool) -> None:
    """The peer: one COPY statement."""
    import duckdb

    def part(blob: str) -> str:
        return f"unhex(format('{{:016x}}', octet_length({blob}))) || {blob}"

    hashed = " || ".join(part(blob) for blob in ("'image'::BLOB", "encode(URL)", "encode(coalesce(TEXT, ''))"))
    key = f"left(sha256({hashed}), 32) AS key, " if with_key else ""
    duckdb.sql(
        f"""COPY (
            SELECT {key}URL AS url, TEXT AS caption, WIDTH AS width, HEIGHT AS height,
                AESTHETIC_SCORE AS aesthetic, pwatermark AS watermark, punsafe AS unsafe,
                similarity::FLOAT AS similarity, NSFW AS nsfw, SAMPLE_ID::VARCHAR AS source_key, LICENSE AS licence
            FROM read_parquet({files})
            WHERE AESTHETIC_SCORE >= {bounds["min_aesthetic"]} AND least(WIDTH, HEIGHT) >= {bounds["min_side"]}
                AND greatest(WIDTH, HEIGHT) / least(WIDTH, HEIGHT) <= {bounds["max_aspect"]}
                AND pwatermark <= {bounds["max_watermark"]} AND punsafe <= {bounds["max_unsafe"]}
                AND similarity >= {bounds["min_similarity"]} AND URL <> ''
        ) TO '{output / "kept.parquet"}' (FORMAT parquet, COMPRESSION zstd)"""
    )


def run_editmill(files: list[str], bounds: dict[str, float], output: Path, runner: str) -> None:
    """What `editmill filter` runs."""
    from jobs.config import PipelineConfig
    from jobs.pipeline import run_pipeline
    from schemas.config import parse_config

    source = {"laion_parquet": {"paths": files, **bounds}}
    values = {"name": "filter", "output": str(output / "run"), "source": source, "runner": {"kind": runner}}
    run_pipeline(parse_config(PipelineConfig, values, "benchmark"))


class Memory:
    """Peak of the memory of this process and all below it, in MiB, by looking every 50 ms.

    Memory that processes share, as Ray's object store, counts once (proportional set size).
    """

    def __init__(self) -> None:
        self.before = self.peak = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def above_before(self) -> float:
        """The peak above what there was at the beginning."""
        self._stop.set()
        self._thread.join()
        return self.peak - self.before

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, self._now())

    def _now(self) -> float:
        found = 0
        for process in _family():
            with suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        found += int(line.split()[1])
        return found / 1024


def _family() -> list[int]:
    """This process and all processes below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(after_name[1]), []).append(int(entry.name))
    found, todo = [], [os.getpid()]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def _processor_seconds() -> float:
    ticks = 0
    for process in _family():
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(fields[place]) for place in (11, 12, 13, 14))
    return ticks / os.sysconf("SC_CLK_TCK")


def warm(number: int) -> int:
    """Make a Ray worker import what the job needs."""
    import pipelines.metadata_filter.source  # noqa: F401

    time.sleep(0.3)
    return number


def one(way: str, files: list[str], bounds: dict[str, float], output: Path, of_memory: bool) -> dict[str, float]:
    """One measurement, of memory or of time, in this process."""
    import duckdb
    import pyarrow.dataset  # noqa: F401

    import jobs.pipeline
    import jobs.report.run_page
    import pipelines.metadata_filter.source  # noqa: F401

    on_ray = way == "editmill on Ray"
    start_up = time.perf_counter()
    if on_ray:
        import jobs.runners.ray_tasks  # noqa: F401
        from jobs.runners.config import RunnerConfig
        from jobs.runners.ray_session import ray_map, ray_session

        session = ray_session(RunnerConfig(kind="ray"))
        session.__enter__()
        list(ray_map(warm, range(2 * (os.cpu_count() or 1))))
    start_up = time.perf_counter() - start_up
    duckdb.sql("SELECT 1").fetchall()
    memory = Memory() if of_memory else None
    processor, start = _processor_seconds(), time.perf_counter()
    if way.startswith("duckdb"):
        run_duckdb(files, bounds, output, with_key=way == "duckdb")
    else:
        run_editmill(files, bounds, output, "ray" if on_ray else "in_process")
    seconds, processor = time.perf_counter() - start, _processor_seconds() - processor
    found = {"seconds": seconds, "processor": processor, "start_up": start_up}
    if memory:
        found = {"memory": memory.above_before()}
    if on_ray:
        session.__exit__(None, None, None)
    return found


def same_rows(output: Path) -> int:
    """How many rows were kept; they must be the same, in the same order.

    Raises:
        SystemExit: they are not.
    """
    peer = pq.read_table(output / "duckdb" / "kept.parquet", columns=["key", "url", "aesthetic", "source_key"])
    for way in ("editmill", "editmill on Ray"):
        folder = output / way / "run"
        if folder.exists():
            entries = json.loads((folder / "manifest.json").read_text())["partitions"]
            names = [str(folder / entry["records"]["name"]) for entry in entries]
            ours = pq.ParquetDataset(names).read(columns=peer.column_names)
            if ours.replace_schema_metadata(None).cast(peer.schema) != peer:
                raise SystemExit(f"{way} kept {ours.num_rows} rows, DuckDB {peer.num_rows}: not the same output")
    return int(peer.num_rows)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[3, 10, 30], help="rows")
    parser.add_argument("--repeats", type=int, default=3, help="of which the least counts")
    parser.add_argument("--folder", type=Path, help="where files are made; by default a temporary folder")
    parser.add_argument("--row-group", type=int, default=250_000, help="rows in a row group")
    parser.add_argument("--by-score", action="store_true", help="files sorted by score, so that row groups are skipped")
    parser.add_argument("--loose", action="store_true", help="bounds that a fifth of the rows meet")
    parser.add_argument("--no-ray", action="store_true", help="in one process only")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "LIST", "OUTPUT"), help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    bounds = LOOSE if options.loose else ISSUE
    if options.one:
        way, listed, output = options.one
        print(json.dumps(one(way, json.loads(Path(listed).read_text()), bounds, Path(output), options.memory)))
        return
    folder = options.folder or Path(mkdtemp(prefix="editmill-filter-"))
    ways = [way for way in WAYS if not (options.no_ray and way.endswith("Ray"))]
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; least of {options.repeats}; memory above the start"
    )
    for millions in options.millions:
        measure(folder, int(millions * 1e6), ways, options)
    if options.folder is None:
        shutil.rmtree(folder)


def measure(folder: Path, rows: int, ways: list[str], options: argparse.Namespace) -> None:
    """One size: all ways in turn, a table."""
    size = max(options.row_group, 2_500_000)
    files = write_laion_like(folder / "laion", rows, options.row_group, size, options.by_score)
    listed = folder / "files.json"
    listed.write_text(json.dumps([str(path) for path in files]))
    output = folder / "output"
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    loads = []
    for turn in range(1 + options.repeats):
        for way in ways:
            shutil.rmtree(output / way, ignore_errors=True)
            (output / way).mkdir(parents=True)
            command = [sys.executable, __file__, "--one", way, str(listed), str(output / way)]
            command += ["--loose"] if options.loose else []
            command += [] if turn else ["--memory"]
            loads.append(os.getloadavg()[0])
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[way].append(json.loads(done.stdout.splitlines()[-1]))
    kept = same_rows(output)
    bytes_read = sum(path.stat().st_size for path in files)
    print(
        f"\n{rows:,} rows in {len(files)} files ({bytes_read / 1e6:,.0f} MB), {kept:,} kept ({kept / rows:.1%}); "
        f"load {min(loads):.1f} to {max(loads):.1f}"
    )
    print(
        f"  {'':<16} {'seconds':>8} {'x duckdb':>9} {'cpu s':>7} {'x duckdb':>9} {'MiB':>6} {'M rows/s':>9}  start-up"
    )
    least = {way: {name: min(run[name] for run in found[1:]) for name in found[1]} for way, found in runs.items()}
    peer = least["duckdb"]
    for way, found in least.items():
        memory = runs[way][0]["memory"]
        print(
            f"  {way:<16} {found['seconds']:8.2f} {found['seconds'] / peer['seconds']:9.2f} {found['processor']:7.2f} "
            f"{found['processor'] / peer['processor']:9.2f} {memory:6.0f} {rows / found['seconds'] / 1e6:9.1f}"
            + (f"  {found['start_up']:.1f} s" if way.endswith("Ray") else "")
        )
    shutil.rmtree(output)


if __name__ == "__main__":
    main()
