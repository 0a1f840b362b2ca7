"""The dataset card: made from the manifest alone, its numbers are the folder's, data cannot write markup into it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pack_samples import TableLoader, edit_row, loaders_of, table_of, tree

from pipelines.pack import PackConfig, pack
from pipelines.pack.card import dataset_card
from pipelines.pack.card_front import hub_licence
from pipelines.pack.contents import MOST_VALUES, Contents, listed
from pipelines.shards.validate import validate
from schemas.manifest import StepHistory, manifest_checksum, read_manifest

CONFIG = PackConfig(subsets={"train": 0.5, "test": 0.5}, samples_per_shard=3, title="Small *edits*")
HISTORY = (
    StepHistory(
        name="magicbrush", version=1, rows_in=14, kept=13, rejected={"image_empty": 1}, config={"split": "dev"}
    ),
    StepHistory(name="masks", version=2, rows_in=13, kept=12, rejected={"too_small": 1}, config={"recipe": "seed"}),
)


def front(card: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return values


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("card") / "shards"
    evidence = {"model": "judge-7b", "prompt": "imgedit", "prompt_version": 3, "prompt_sha256": "ab" * 32, "reply": "5"}
    odd = edit_row(11, source="a | b\n<script>", judge_evidence=json.dumps(evidence))
    pack([*loaders_of(11, 4), TableLoader(table_of([odd]))], CONFIG, out, history=HISTORY)
    return out


def test_the_card_tells_what_the_folder_holds(packed: Path) -> None:
    card = (packed / "README.md").read_text()
    assert card == dataset_card(read_manifest(packed))
    values = front(card)
    assert values["pretty_name"] == "Small *edits*" and "# Small \\*edits\\*" in card
    assert values["license"] == ["cc0-1.0", "unknown"] and values["size_categories"] == ["n<1K"]
    assert [one["split"] for one in values["configs"][0]["data_files"]] == ["train", "test"]
    for line in (
        "12 samples, ",
        "| test | CC0 | 6 | 50.0% |",
        "| a \\| b \\<script\\> | – | 1 | 8.3% |",
        "For 6 samples none is stated.",
        "| magicbrush | 14 | 13 | 1 |",
        "| masks | too_small | 1 |",
        "| pack | 12 | 12 | 0 |",
        "| text: long | m | p v1 | 00 | 12 |",
        "| scores: fidelity, success | judge-7b | imgedit v3 | abababababababab | 1 |",
        "Recipe seed, version 1: 12 samples.",
        "threshold: 18",
        "split: dev",
    ):
        assert line in card, line
    assert "<script>" not in card and str(packed) not in card


def test_a_lost_card_comes_back_and_one_that_a_person_completed_stays(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    pack(loaders_of(5, 5), CONFIG, out)
    before = tree(out)
    assert "is not known here" in before["README.md"].decode()
    (out / "README.md").unlink()
    assert pack(loaders_of(5, 5), CONFIG, out).already_packed and tree(out) == before
    (out / "README.md").write_text("completed by hand")
    assert pack(loaders_of(5, 5), CONFIG, out).already_packed and validate(out) == []
    assert (out / "README.md").read_text() == "completed by hand"
    # What became of the rows before is part of what is packed.
    assert not pack(loaders_of(5, 5), CONFIG, out, history=HISTORY[:0], overwrite=True).already_packed
    assert (out / "README.md").read_bytes() != before["README.md"]


def test_what_the_manifest_tells_must_add_up(packed: Path, tmp_path: Path) -> None:
    pack(loaders_of(5, 5), CONFIG, tmp_path, history=HISTORY)
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    values["history"][0]["kept"] = 12
    values["subsets"]["train"] += 1
    path.write_text(json.dumps({**values, "checksum": manifest_checksum(values)}))
    assert [(fault.file, str(fault.kind)) for fault in validate(tmp_path)] == [
        ("manifest.json", "counts"),
        ("manifest.json", "counts"),
        ("index.parquet", "index"),
    ]


def test_a_folder_of_the_former_version_is_sound_and_has_a_card(tmp_path: Path) -> None:
    pack(loaders_of(5, 5), PackConfig(), tmp_path)
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    former = {name: value for name, value in values.items() if name not in ("history", "contents", "subsets")}
    former = {**former, "manifest_version": 1}
    path.write_text(json.dumps({**former, "checksum": manifest_checksum(former)}))
    (tmp_path / "README.md").unlink()
    assert validate(tmp_path) == []
    assert front(dataset_card(read_manifest(tmp_path)))["license"] == "unknown"


def test_an_empty_folder_and_images_have_cards(tmp_path: Path) -> None:
    pack([TableLoader(table_of([edit_row(1, key="x")]))], PackConfig(), tmp_path / "empty")
    assert "configs" not in front((tmp_path / "empty" / "README.md").read_text())
    pack(loaders_of(4, 2, "images"), PackConfig(record="images", formats=("webdataset",)), tmp_path / "images")
    values = front((tmp_path / "images" / "README.md").read_text())
    assert values["configs"][0]["data_files"] == [{"split": "train", "path": "webdataset/images-*.tar"}]


def test_licences_are_named_as_the_hub_does() -> None:
    names = {"CC BY 4.0": "cc-by-4.0", "CC0": "cc0-1.0", "Apache-2.0": "apache-2.0", "MIT": "mit", " ": "unknown"}
    assert {name: hub_licence(name) for name in names} == names
    assert hub_licence(None) == "unknown" and hub_licence("see the card") == "other"


def test_many_values_of_a_topic_become_few(tmp_path: Path) -> None:
    contents = Contents({("sources", json.dumps({"source": str(n), "licence": None})): n + 1 for n in range(150)})
    entries = listed(contents)["sources"]
    assert len(entries) == MOST_VALUES + 1 and entries[0]["samples"] == 150
    assert entries[-1] == {"others": 50, "samples": sum(range(51))}


def run_code(code: str, folder: Path, cache: Path) -> str:
    """What a script prints that is run in `folder`, without a network."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "HF_DATASETS_CACHE": str(cache / "d")}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120, cwd=folder
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_code_in_the_card_runs_and_datasets_finds_the_splits(packed: Path, tmp_path: Path) -> None:
    with_datasets, with_webdataset = re.findall(r"```python\n(.*?)```", (packed / "README.md").read_text(), re.DOTALL)
    sizes = read_manifest(packed).subsets
    assert sizes is not None
    assert run_code(with_webdataset, packed, tmp_path).count("make it") == sizes["train"]
    found = run_code(with_datasets.replace("PATH_OF_THIS_FOLDER", str(packed)), tmp_path, tmp_path)
    assert found.startswith("make it") and "mode=1" in found
    listing = f"""
import json, datasets
found = datasets.load_dataset({str(packed)!r})
print(json.dumps({{split: table["key"][:] for split, table in found.items()}}))
"""
    keys = json.loads(run_code(listing, tmp_path, tmp_path).splitlines()[-1])
    assert {split: len(found) for split, found in keys.items()} == sizes
    assert len({key for found in keys.values() for key in found}) == 12
