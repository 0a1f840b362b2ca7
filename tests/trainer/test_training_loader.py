"""The loader: order, resuming, filtering, and samples that cannot be used."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_data import changed, config_for, edit_row, pack_rows, png, spoil

from schemas.errors import ConfigError, InputError, RowRejected, ShardError
from schemas.images import encode_mask
from schemas.manifest import read_manifest
from trainer.config import TrainConfig
from trainer.data.batch import MicroBatch
from trainer.data.buckets import Bucket
from trainer.data.decode import decode
from trainer.data.loader import micro_batches
from trainer.data.members import EncodedSample
from trainer.data.shards import open_shards
from trainer.data.training_data import open_data
from unified_model.model import UnifiedEditModel
from unified_model.processor import EditProcessor


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> EditProcessor:
    return UnifiedEditModel.from_pretrained(tiny_model).processor


def all_batches(
    config: TrainConfig, processor: EditProcessor, first_step: int, rank: int, ranks: int
) -> list[MicroBatch]:
    return list(micro_batches(open_data(config, ranks), config, processor, first_step, rank, ranks))


def test_workers_and_ranks_do_not_change_what_is_trained_on(
    tiny_model: Path, shards: Path, processor: EditProcessor, tmp_path: Path
) -> None:
    whole = config_for(tiny_model, shards, tmp_path, batch_size=4, steps=5)
    plain = all_batches(whole, processor, 0, 0, 1)
    keys = [key for batch in plain for key in batch.keys]
    assert len(keys) == 20 and len(set(keys[:12])) == 12
    halves = [all_batches(whole.model_copy(update={"batch_size": 2}), processor, 0, rank, 2) for rank in (0, 1)]
    assert [key for pair in zip(*halves, strict=True) for batch in pair for key in batch.keys] == keys
    later = all_batches(whole, processor, 3, 0, 1)
    assert [key for batch in later for key in batch.keys] == keys[12:]
    for ours, theirs in zip(later, plain[3:], strict=True):
        assert torch.equal(ours.target, theirs.target)
        assert torch.equal(ours.weights, theirs.weights)
        assert torch.equal(ours.inputs.pixel_values, theirs.inputs.pixel_values)


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_worker_processes_keep_the_order(
    tiny_model: Path, shards: Path, processor: EditProcessor, tmp_path: Path
) -> None:
    config = config_for(tiny_model, shards, tmp_path, batch_size=4, steps=3)
    plain = all_batches(config, processor, 0, 0, 1)
    spread = all_batches(changed(config, data={"workers": 2}), processor, 0, 0, 1)
    assert [batch.keys for batch in spread] == [batch.keys for batch in plain]
    assert all(torch.equal(ours.target, theirs.target) for ours, theirs in zip(spread, plain, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_step_of_many_micro_batches_does_not_run_out_of_open_files(
    tiny_model: Path, shards: Path, processor: EditProcessor, tmp_path: Path
) -> None:
    """Also where a process may open few: what a worker hands over must not keep a file open for each tensor."""
    config = config_for(tiny_model, shards, tmp_path, batch_size=1, steps=1, data={"workers": 1})
    stream = micro_batches(
        open_data(config, 1), changed(config, gradient_accumulation=40), processor, 0, 0, 1, with_references=True
    )
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 200, limits[1]))
    try:
        assert len(list(stream)) == 40
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


BREAKS_OFF = """
import sys
from schemas.config import parse_config
from trainer.config import TrainConfig
from trainer.data.loader import micro_batches
from trainer.data.training_data import open_data

if __name__ == "__main__":
    data = {"shards": [sys.argv[1]], "resolution": 64, "workers": 2}
    values = {"model": "none", "output": "none", "data": data, "steps": 1000, "batch_size": 2}
    config = parse_config(TrainConfig, values, "test")
    stream = micro_batches(open_data(config, 1), config, None, 0, 0, 1)
    next(stream)
    raise MemoryError("as a full GPU would")
"""


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_run_that_breaks_off_ends_and_takes_its_workers_along(shards: Path, tmp_path: Path) -> None:
    script = tmp_path / "breaks_off.py"
    script.write_text(BREAKS_OFF)
    done = subprocess.run([sys.executable, script, shards], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("MemoryError: as a full GPU would")


def test_statuses_are_filtered_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    statuses = ["ok", "ok", "ok", "global", "unchanged", "unchanged", "too_small"]
    rows = [edit_row(number, mask_status=status) for number, status in enumerate(statuses)]
    packed = pack_rows(tmp_path / "packed", rows)
    index = open_shards([packed], {"ok", "global"}, ["train"])
    assert len(index) == 4
    assert index.left_out == {"unchanged": 2, "too_small": 1}
    assert len(open_shards([packed, packed], {"unchanged"}, ["train"])) == 4
    with pytest.raises(ConfigError, match=r"more than the 4 samples .*unchanged"):
        open_data(config_for(tiny_model, packed, tmp_path / "run", batch_size=5), 1)


def test_only_the_subsets_asked_for_are_trained_on(tmp_path: Path) -> None:
    rows = [edit_row(number) for number in range(12)]
    plain = pack_rows(tmp_path / "plain", rows)
    packed = pack_rows(tmp_path / "packed", rows, subsets={"train": 0.5, "test": 0.3, "rest": 0.2}, subset_by="key")
    sizes = read_manifest(packed).subsets
    assert sizes is not None and all(sizes.values())
    index = open_shards([packed, plain], {"ok"}, ["train"])
    assert len(index) == sizes["train"] + 12
    assert index.left_out == {"subset test": sizes["test"], "subset rest": sizes["rest"]}
    assert len(open_shards([packed], {"ok"}, ["test", "rest"])) == 12 - sizes["train"]
    with pytest.raises(InputError, match="rest"):
        open_shards([plain, packed], {"ok"}, ["trian"])


def test_a_global_edit_weighs_one_everywhere(tiny_model: Path, tmp_path: Path, processor: EditProcessor) -> None:
    packed = pack_rows(tmp_path / "packed", [edit_row(number, mask_status="global") for number in range(2)])
    (batch,) = all_batches(config_for(tiny_model, packed, tmp_path, steps=1), processor, 0, 0, 1)
    assert bool(batch.cells.all())
    assert torch.equal(batch.weights, torch.ones(2, 1, 6, 10))


def test_missing_or_cut_shards_are_found_before_the_start(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="manifest"):
        open_shards([tmp_path], {"ok"}, ["train"])
    packed = pack_rows(tmp_path / "packed", [edit_row(number) for number in range(4)])
    (tar,) = (packed / "webdataset").glob("*.tar")
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(ShardError, match="bytes where the manifest states"):
        open_shards([packed], {"ok"}, ["train"])


def bad_rows() -> list[dict[str, object]]:
    """Rows that pack; the last two cannot be trained on, and the first two will be spoiled."""
    thin = np.zeros((64, 96), np.bool_)
    thin[:, [0, 95]] = True
    return [
        edit_row(0),
        edit_row(1),
        edit_row(2, mask={"bytes": encode_mask(thin), "path": None}),
        edit_row(3, instruction="end <|im_end|> here"),
    ]


def test_a_sample_that_cannot_be_used_keeps_its_key_and_reason(
    tiny_model: Path, tmp_path: Path, processor: EditProcessor
) -> None:
    rows = [*bad_rows(), *(edit_row(number) for number in range(4, 8))]
    packed = pack_rows(tmp_path / "packed", rows)
    config = config_for(tiny_model, packed, tmp_path, batch_size=8, steps=1, data={"buckets": "square"})
    data = open_data(config, 1)
    spoil(packed, rows[0]["key"], "target")
    spoil(packed, rows[1]["key"], "mask")
    (packed / "webdataset" / "edits-000001.tar").write_bytes(b"")
    (batch,) = micro_batches(data, config, processor, 0, 0, 1)
    reasons = Counter(sample.reason for sample in batch.bad)
    assert reasons == {
        "image_truncated": 2, "edit_outside_crop": 1, "instruction_unusable": 1, "sample_truncated": 3
    }  # fmt: skip
    assert int(batch.usable.sum()) == 1
    assert {sample.key for sample in batch.bad} == {
        key for key, usable in zip(batch.keys, batch.usable.tolist(), strict=True) if not usable
    }
    assert batch.target.shape == (8, 3, 64, 64)


def test_a_mask_of_another_size_than_the_target_is_refused() -> None:
    images = {name: png(np.zeros((64, 96, 3), np.uint8)) for name in ("reference", "target")}
    mask = encode_mask(np.ones((10, 10), np.bool_))
    with pytest.raises(RowRejected) as rejection:
        decode(EncodedSample([images["reference"]], images["target"], mask, "paint", "ok"), Bucket("1:1", 64, 64))
    assert rejection.value.reason == "mask_size"


def test_exif_orientation_is_applied_to_reference_and_target(
    tiny_model: Path, tmp_path: Path, processor: EditProcessor
) -> None:
    upright = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright)).save(turned, "PNG", exif=exif)
    rows = [
        edit_row(0, target={"bytes": turned.getvalue(), "path": "a.png"}),
        edit_row(0, key="0" * 32, target={"bytes": png(upright), "path": "a.png"}),
    ]
    packed = pack_rows(tmp_path / "packed", rows)
    config = config_for(tiny_model, packed, tmp_path, batch_size=2, steps=1)
    (batch,) = micro_batches(open_data(config, 1), config, processor, 0, 0, 1)
    assert not batch.bad
    assert torch.equal(batch.target[0], batch.target[1])
