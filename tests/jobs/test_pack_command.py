"""`editmill pack`: what it tells of the steps before, and its subsets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pair_files import editmill, write_pairs

from jobs.run_manifest import read_run_manifest
from pipelines.shards.validate import validate
from pipelines.sources.packed_shards import PackedShards, PackedShardsConfig
from schemas.errors import InputError
from schemas.manifest import read_manifest


def test_the_card_tells_every_step_of_every_run_and_subsets_are_asked_for(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs")
    assert editmill("masks", pairs, "--output", "runs/first", "--recipe", "seed", cwd=tmp_path).returncode == 0
    # A second run over the records of the first.
    again = editmill("masks", "runs/first", "--output", "runs/second", "--recipe", "uniworld", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    share = ("--subset", "train=0.5", "--subset", "test=0.5", "--title", "Mine")
    packed = editmill("pack", "runs/second", "--output", "shards", *share, cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    manifest = read_manifest(tmp_path / "shards")
    assert manifest.history is not None and manifest.subsets is not None
    assert [step.name for step in manifest.history] == ["edit_pairs_jsonl", "masks", "masks"]
    stages = [*read_run_manifest(tmp_path / "runs/first").stages, read_run_manifest(tmp_path / "runs/second").stages[1]]
    assert [step.rejected for step in manifest.history] == [stage.rejected for stage in stages]
    assert manifest.history[0].rows_in - sum(sum(s.rejected.values()) for s in manifest.history) == manifest.rows_in
    card = (tmp_path / "shards" / "README.md").read_text()
    assert "# Mine" in card and str(tmp_path) not in card and "recipe: uniworld" in card
    assert validate(tmp_path / "shards") == []

    for subset, samples in manifest.subsets.items():
        source = PackedShards(PackedShardsConfig(path=str(tmp_path / "shards"), subsets=(subset,)))
        assert sum(source.read(part).kept.num_rows for part in source.partitions()) == samples > 0
    with pytest.raises(InputError, match="no subset"):
        PackedShards(PackedShardsConfig(path=str(tmp_path / "shards"), subsets=("trian",))).partitions()

    for options, words in (
        (("--subset", "train=x"), "subsets.train.share = 'x'"),
        (("--subset", "train=0.5", "--subset", "train=0.5"), "given twice"),
    ):
        refused = editmill("pack", "runs/second", "--output", "other", *options, cwd=tmp_path)
        assert refused.returncode == 2 and words in refused.stderr and "Traceback" not in refused.stderr
