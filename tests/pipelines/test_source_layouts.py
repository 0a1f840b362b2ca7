"""Public data sets in their released layouts: every row is a pair or has a reason, from the files to the shards."""

from __future__ import annotations

import ast
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import source_layouts as layouts
from source_layouts import LAYOUTS, Layout

from jobs.config import PipelineConfig
from jobs.pipeline import run_pipeline
from jobs.registry import SOURCES, make_source
from jobs.run_manifest import read_run_manifest
from pipelines.shards.read import open_packed
from pipelines.shards.validate import validate
from pipelines.source import Source
from pipelines.sources.guess import FORMATS, guess_source, source_values
from pipelines.step import StepResult
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError, SchemaError
from schemas.keys import pair_key
from schemas.manifest import read_manifest
from schemas.outcomes import OUTCOME
from schemas.records import EDIT_PAIR, EDIT_SAMPLE


def source_of(layout: Layout, **changes: Any) -> Source[Any]:
    [(name, values)] = layout.source.items()
    return make_source(name, {**values, **changes}, "test")


def read_all(source: Source[Any]) -> StepResult:
    results = [source.read(partition) for partition in source.partitions()]
    return StepResult(
        pa.concat_tables([one.kept for one in results]), pa.concat_tables([one.rejected for one in results])
    )


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_row_is_a_pair_in_a_shard_or_has_a_reason(write: Callable[[Path], Layout], tmp_path: Path) -> None:
    layout = write(tmp_path / "data")
    values = {
        "name": "public",
        "output": str(tmp_path / "run"),
        "source": layout.source,
        "steps": [{"masks": {}}],
        "pack": {"samples_per_shard": 3},
    }
    report = run_pipeline(parse_config(PipelineConfig, values, "test"))
    manifest = read_run_manifest(tmp_path / "run")
    source, masks = manifest.stages
    assert (source.rows_in, source.kept) == (layout.pairs + layout.reasons.total(), layout.pairs)
    assert Counter(source.rejected) == layout.reasons
    assert masks.rows_in == masks.kept == report.kept == layout.pairs
    assert not validate(tmp_path / "run" / "shards")
    for row in open_packed(tmp_path / "run" / "shards").samples():
        assert layout.carries.items() <= row.items() and row["licence"]
        assert row["key"] == pair_key(
            [i["bytes"] for i in row["references"]], row["target"]["bytes"], row["instruction"]
        )
        assert 0.05 < row["edited_fraction"] < 0.3
    assert not run_pipeline(parse_config(PipelineConfig, values, "test")).did_work


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_rows_do_not_depend_on_how_they_are_cut_or_where_they_lie(
    write: Callable[[Path], Layout], tmp_path: Path
) -> None:
    layout = write(tmp_path / "data")
    whole = read_all(source_of(layout))
    small = source_of(layout, rows_per_partition=1)
    cut = [small.read(pickle.loads(pickle.dumps(partition))) for partition in small.partitions()]
    assert pa.concat_tables([one.kept for one in cut]).equals(whole.kept) or layout.reasons["repeated_row"]
    EDIT_PAIR.check(whole.kept)
    OUTCOME.check(whole.rejected)
    assert whole.kept["source_key"].null_count == 0 and len(set(whole.kept["source_key"].to_pylist())) == layout.pairs
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    moved = str(layout.source).replace(str(tmp_path / "data"), str(tmp_path / "copy"))
    assert read_all(source_of(Layout(ast.literal_eval(moved), 0))).kept.equals(whole.kept)
    other = read_all(source_of(layout, source="mine", licence="CC0")).kept
    assert set(whole.rejected["source"].to_pylist()) <= {layout.carries["source"]}
    assert set(other["source"].to_pylist()) == {"mine"} and set(other["licence"].to_pylist()) == {"CC0"}


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_the_source_is_guessed(write: Callable[[Path], Layout], tmp_path: Path) -> None:
    [(name, values)] = write(tmp_path / "data").source.items()
    place = Path(values.get("path") or values["paths"])
    assert guess_source(place) == name
    assert make_source(name, source_values(name, place), "test").partitions()
    assert set(FORMATS) <= set(SOURCES)


def test_a_split_is_chosen_by_the_names_of_files(tmp_path: Path) -> None:
    brush, ultra = layouts.magicbrush(tmp_path / "m"), layouts.ultraedit(tmp_path / "u")
    assert read_all(source_of(brush, split="dev")).kept.num_rows == 1
    assert read_all(source_of(brush, split=None)).kept.num_rows == 5
    assert read_all(source_of(ultra, split="FreeForm_*")).kept.num_rows == 2
    assert read_all(source_of(ultra, split="RegionBase")).kept.num_rows == 2
    with pytest.raises(InputError, match="splits there are: dev, train"):
        source_of(brush, split="test").partitions()


@pytest.mark.parametrize(
    ("choice", "texts"),
    [
        ("first", {"add a square"}),
        ("last", {"add a square", "add a square that is quite pink"}),
        ("shortest", {"add a square"}),
        ("longest", {"add a square", "add a square that is quite pink"}),
    ],
)
def test_one_of_several_wordings_is_chosen(choice: str, texts: set[str], tmp_path: Path) -> None:
    layout = layouts.omniedit(tmp_path)
    assert set(read_all(source_of(layout, instruction=choice)).kept["instruction"].to_pylist()) == texts
    anyone = source_of(layout, instruction="any")
    assert read_all(anyone).kept.equals(read_all(anyone).kept)
    with pytest.raises(ConfigError, match="is no column of scores of OmniEdit"):
        source_of(layout, minimum_scores={"oscore": 1})
    with pytest.raises(ConfigError, match="OmniEdit has no mask"):
        source_of(layout, keep_declared_mask=True)


def test_a_declared_mask_is_kept_on_request_and_never_becomes_the_mask(tmp_path: Path) -> None:
    brush, ultra = layouts.magicbrush(tmp_path / "m"), layouts.ultraedit(tmp_path / "u")
    assert "declared_mask" not in read_all(source_of(brush)).kept.column_names
    assert read_all(source_of(brush, keep_declared_mask=True)).kept["declared_mask"].null_count == 0
    assert read_all(source_of(ultra, keep_declared_mask=True)).kept["declared_mask"].null_count == 2


def test_a_large_row_group_is_cut_and_only_needed_columns_are_read(tmp_path: Path) -> None:
    layout = layouts.magicbrush(tmp_path / "m")
    whole = read_all(source_of(layout))
    cut = source_of(layout, bytes_per_partition=20_000)
    assert len(cut.partitions()) > len(source_of(layout).partitions())
    assert read_all(cut).kept.equals(whole.kept)
    [file] = (tmp_path / "m" / "data").glob("train-*")
    table = pq.read_table(file)
    pq.write_table(table.append_column("never read", pa.array([1] * table.num_rows)), file)
    data = bytearray(file.read_bytes())
    chunk = pq.read_metadata(file).row_group(0).column(9)
    assert chunk.path_in_schema == "never read"
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    file.write_bytes(data)
    assert read_all(source_of(layout)).kept.num_rows == 4


def test_another_data_set_is_refused_before_a_row_is_read(tmp_path: Path) -> None:
    brush = layouts.magicbrush(tmp_path / "m")
    with pytest.raises(SchemaError, match="has no column 'src_img', which OmniEdit has"):
        make_source("omniedit", brush.source["magicbrush"], "test").partitions()
    with pytest.raises(SchemaError, match="lacks the column 'input_images'"):
        make_source("imgedit", {"path": str(tmp_path / "m")}, "test").partitions()
    with pytest.raises(InputError, match="must be IMAGE_ROOT,JSON_FILE"):
        (tmp_path / "data.txt").write_text("a,b\n")
        make_source("uniworld_data", {"path": str(tmp_path / "data.txt")}, "test").partitions()


def test_imgedit_archives_may_be_unpacked_and_must_be_whole(tmp_path: Path) -> None:
    layout = layouts.imgedit(tmp_path / "d")
    whole = read_all(source_of(layout))
    turns = [key for key in whole.kept["source_key"].to_pylist() if "version" in key]
    assert turns == ["version_backtracking_part0.parquet#0.0", "version_backtracking_part0.parquet#0.1"]
    last = whole.kept.slice(5).to_pylist()[0]
    assert last["references"][0]["bytes"] == layouts.after(5)["bytes"] and last["edit_type"] == "version_backtracking"
    assert read_all(source_of(layout, turns="multi")).kept.num_rows == 2
    assert read_all(source_of(layout, tasks=["a*"])).kept.num_rows == 4
    with pytest.raises(InputError, match="tasks there are add, version_backtracking"):
        source_of(layout, tasks=["add"], turns="multi").partitions()

    parts = sorted((tmp_path / "d" / "Singleturn").iterdir())
    held = parts[1].read_bytes()
    parts[1].unlink()
    with pytest.raises(InputError, match="part 001 is missing"):
        source_of(layout).partitions()
    parts[1].write_bytes(held)
    for part in parts[len(parts) // 2 :]:
        part.unlink()
    with pytest.raises(InputError, match="is cut off"):
        source_of(layout).partitions()
    half = read_all(source_of(layout, cut_off_archives="use"))
    assert 3 <= half.kept.num_rows < 6 and half.kept.num_rows + half.rejected.num_rows == 14
    (tmp_path / "d" / "results_add_laion_part0" / "00000").mkdir(parents=True)
    for name, data in (("original", layouts.before(0)["bytes"]), ("result", layouts.after(0)["bytes"])):
        (tmp_path / "d" / "results_add_laion_part0" / "00000" / f"{name}.png").write_bytes(data)
    shutil.rmtree(tmp_path / "d" / "Singleturn")
    assert read_all(source_of(layout)).kept.num_rows == 3
    moved = read_all(
        source_of(layout, path_prefixes={"results_add_laion_part0/00001": "results_add_laion_part0/00000"})
    )
    assert moved.kept.num_rows == 3


@pytest.mark.parametrize("formats", [["webdataset"], ["parquet"]])
def test_own_shards_go_on_with_all_they_have_or_get_other_masks(formats: list[str], tmp_path: Path) -> None:
    layout = layouts.omniedit(tmp_path / "data")

    def run(name: str, source: dict[str, Any], steps: list[Any]) -> Path:
        values = {
            "name": name,
            "output": str(tmp_path / name),
            "source": source,
            "steps": steps,
            "pack": {"samples_per_shard": 2, "formats": formats},
        }
        run_pipeline(parse_config(PipelineConfig, values, "test"))
        return tmp_path / name / "shards"

    first = run("first", layout.source, [{"masks": {}}])
    again = run("again", {"packed_shards": {"path": str(first), "rows_per_partition": 3}}, [])
    names = [path.relative_to(first) for path in sorted(first.rglob("*")) if path.suffix in (".tar", ".parquet")]
    assert len(names) > 1 and all((first / name).read_bytes() == (again / name).read_bytes() for name in names)
    # Manifest and card differ by what became of the rows: it goes on from what the shards tell.
    told = [step.name for step in read_manifest(again).history or ()]
    assert told == ["omniedit", "masks", "pack", "packed_shards"]
    assert guess_source(first) == "packed_shards"
    other = run("other", {"packed_shards": {"path": str(first)}}, [{"masks": {"recipe": "seed"}}])
    assert {row["mask_recipe"] for row in open_packed(other).samples()} == {"seed"}

    source = make_source("packed_shards", {"path": str(first), "sources": ["MagicBrush"]}, "test")
    EDIT_SAMPLE.check(source.read(source.partitions()[0]).kept)
    assert set(read_all(source).rejected["reason"].to_pylist()) == {"source_unwanted"}


def test_altered_shards_are_met_sample_by_sample(tmp_path: Path) -> None:
    values = {
        "name": "first",
        "output": str(tmp_path / "first"),
        "source": layouts.omniedit(tmp_path / "data").source,
        "steps": [{"masks": {"recipe": "seed"}}],
        "pack": {"samples_per_shard": 5, "formats": ["webdataset"]},
    }
    run_pipeline(parse_config(PipelineConfig, values, "test"))
    shards = tmp_path / "first" / "shards"
    source = make_source("packed_shards", {"path": str(shards)}, "test")
    index = open_packed(shards).index.to_pylist()
    [tar] = (shards / "webdataset").iterdir()
    data = bytearray(tar.read_bytes())
    data[index[1]["offset"] + 600] ^= 1
    data[index[3]["offset"] + 20] ^= 1
    tar.write_bytes(data)
    result = read_all(source)
    assert dict(zip(result.rejected["key"].to_pylist(), result.rejected["reason"].to_pylist(), strict=True)) == {
        index[1]["key"]: "key_mismatch",
        index[3]["key"]: "sample_damaged",
    }
    assert result.kept.num_rows == 3
    tar.write_bytes(data[:-1])
    with pytest.raises(Exception, match="bytes, the manifest says"):
        source.partitions()
