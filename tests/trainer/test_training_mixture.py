"""Mixtures, aspect buckets, rows without references and dropping, through packed shards and the real loader."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from training_data import caption_row, changed, config_for, drawn_row, edit_row, pack_rows

from schemas.errors import ConfigError, InputError
from trainer.config import DropConfig, TrainConfig
from trainer.data.batch import MicroBatch
from trainer.data.dropping import dropped_at
from trainer.data.loader import micro_batches
from trainer.data.training_data import TrainingData, open_data
from unified_model.model import UnifiedEditModel
from unified_model.processor import EditProcessor

SHAPES = ((200, 300), (300, 200), (256, 256), (240, 320), (180, 320), (320, 180))


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> EditProcessor:
    return UnifiedEditModel.from_pretrained(tiny_model).processor


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chequerboards of six shapes, six of each, as PNG and JPEG; the fields' sides differ from sample to sample."""
    rows = []
    for number in range(36):
        height, width = SHAPES[number % 6]
        down, across = np.mgrid[:height, :width]
        field = 40 + 3 * (number // 6)
        mask = ((down // field + across // field) % 2).astype(np.bool_)
        # Twice and four times as large, so that JPEGs are decoded at a lower resolution.
        mask = np.kron(mask, np.ones((1 + number // 12,) * 2, np.bool_))
        rows.append(drawn_row(number, mask, "JPEG" if number % 2 else "PNG"))
    return pack_rows(tmp_path_factory.mktemp("drawn") / "packed", rows)


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_rows(tmp_path_factory.mktemp("captioned") / "packed", [caption_row(number) for number in range(10)])


def batches(
    config: TrainConfig, processor: EditProcessor | None = None, rank: int = 0, ranks: int = 1
) -> list[MicroBatch]:
    data = open_data(config, ranks)
    return list(micro_batches(data, config, processor, 0, rank, ranks, with_references=True))


def test_a_pattern_lies_in_reference_target_and_weights_at_the_same_place(
    tiny_model: Path, drawn: Path, tmp_path: Path
) -> None:
    config = config_for(
        tiny_model, drawn, tmp_path, batch_size=3, steps=24, data={"resolution": 128}, weighting={"function": "linear"}
    )
    seen = Counter()
    for batch in batches(config):
        assert not batch.bad and batch.references is not None and batch.reference_rows is not None
        height, width = batch.target.shape[-2:]
        seen[width, height] += 1
        assert batch.cells.shape == batch.weights.shape == (3, 1, height // 8, width // 8)
        assert batch.references.shape == batch.target.shape and batch.reference_rows.tolist() == [0, 1, 2]
        for row in range(3):
            target = batch.target[row, 0].numpy() > 127
            reference = batch.references[row, 0].numpy() > 127
            # The reference is the reverse, but for pixels on an edge.
            assert (target == reference).mean() < 0.08
            cells = batch.cells[row, 0].numpy()
            drawn_cells = cells_of(target)
            # A field that a source pixel touches counts, so an edge may lie one pixel further out, and no more.
            assert not (drawn_cells & ~cells).any()
            assert not (cells & ~cells_of(cv2.dilate(target.astype(np.uint8), np.ones((5, 5))) > 0)).any()
            weights = batch.weights[row, 0].numpy()
            assert np.array_equal(weights > 1.0, cells)
            assert np.allclose(weights[cells], cells.size / cells.sum())
    assert len(seen) >= 3


def cells_of(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape
    return pixels.reshape(height // 8, 8, width // 8, 8).any(axis=(1, 3))


def mixture(tiny_model: Path, output: Path, edits: Path, captions: Path, **changes: object) -> TrainConfig:
    datasets = [
        {"name": "edits", "shards": [str(edits)], "weight": 3.0},
        {"name": "captions", "shards": [str(captions)], "region_weighting": False},
    ]
    values = {"steps": 40, "batch_size": 4, "data": {"shards": [], "datasets": datasets}, **changes}
    return config_for(tiny_model, edits, output, **values)


def test_edits_and_captions_are_mixed_in_their_shares(
    tiny_model: Path, shards: Path, captioned: Path, processor: EditProcessor, tmp_path: Path
) -> None:
    config = mixture(tiny_model, tmp_path, shards, captioned)
    taken = batches(config, processor)
    names = [name for batch in taken for name in batch.datasets]
    assert Counter(names)["captions"] == pytest.approx(40, abs=2)
    for first in range(0, 120, 7):
        assert names[first : first + 40].count("captions") == pytest.approx(10, abs=2)
    for batch in taken:
        for row, name in enumerate(batch.datasets):
            references = int((batch.inputs.image_rows == row).sum())
            assert references == (1 if name == "edits" else 0)
            assert batch.mask_statuses[row] == ("ok" if name == "edits" else "none")
            if name == "captions":
                assert bool(batch.cells[row].all()) and bool((batch.weights[row] == 1.0).all())
            else:
                assert bool((batch.weights[row] > 1.0).any())
    assert any("75.0%" in line for line in open_data(config, 1).lines())


def test_region_weighting_is_switched_off_for_a_data_set(tiny_model: Path, shards: Path, tmp_path: Path) -> None:
    dataset = {"shards": [str(shards)], "region_weighting": False}
    config = config_for(tiny_model, shards, tmp_path, steps=2, data={"shards": [], "datasets": [dataset]})
    for batch in batches(config):
        assert not bool(batch.cells.all()) and bool((batch.weights == 1.0).all())
    # The short way gives the same samples in the same order.
    short = config_for(tiny_model, shards, tmp_path, steps=2)
    assert [one.keys for one in batches(short)] == [one.keys for one in batches(config)]


@pytest.mark.parametrize(("batch_size", "accumulation", "ranks"), [(4, 3, 1), (2, 3, 2), (4, 1, 3), (1, 3, 4)])
def test_ranks_and_accumulation_do_not_change_mixture_or_buckets(
    tiny_model: Path, drawn: Path, captioned: Path, tmp_path: Path, batch_size: int, accumulation: int, ranks: int
) -> None:
    base = mixture(tiny_model, tmp_path, drawn, captioned)
    config = base.model_copy(update={"batch_size": batch_size, "gradient_accumulation": accumulation, "steps": 6})
    whole = base.model_copy(update={"batch_size": 12, "steps": 6})
    expected = [batch.keys for batch in batches(whole)]
    shares = [batches(config, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert {len(share) for share in shares} == {6 * accumulation}
    for step in range(6):
        micro = [share[step * accumulation + turn] for turn in range(accumulation) for share in shares]
        assert [key for batch in micro for key in batch.keys] == expected[step]
        assert len({batch.target.shape[-2:] for batch in micro}) == 1


def test_blocks_of_rows_let_a_step_hold_several_sizes(tiny_model: Path, drawn: Path, tmp_path: Path) -> None:
    config = config_for(
        tiny_model, drawn, tmp_path, batch_size=2, gradient_accumulation=4, steps=4, data={"bucket_rows": 2}
    )
    sizes = [batch.target.shape[-2:] for batch in batches(config)]
    assert any(len(set(sizes[step * 4 : step * 4 + 4])) > 1 for step in range(4))
    with pytest.raises(ConfigError, match="bucket_rows"):
        open_data(changed(config, data={"bucket_rows": 3}), 1)


def test_rows_lose_text_and_images_as_often_as_asked(
    tiny_model: Path, shards: Path, processor: EditProcessor, tmp_path: Path
) -> None:
    drop = {"text": 0.2, "image": 0.3, "both": 0.1}
    draws = [dropped_at(5, position, DropConfig(**drop)) for position in range(20_000)]
    shares = Counter((draw.text, draw.image) for draw in draws)
    expected = {(True, False): 0.2, (False, True): 0.3, (True, True): 0.1, (False, False): 0.4}
    assert all(shares[what] / 20_000 == pytest.approx(share, abs=0.012) for what, share in expected.items())
    config = config_for(tiny_model, shards, tmp_path, steps=3, batch_size=4, data={"drop": drop})
    for batch in batches(config, processor):
        for row, position in enumerate(batch.positions):
            draw = dropped_at(config.seed, position, config.data.drop)
            assert int((batch.inputs.image_rows == row).sum()) == (0 if draw.image else 1)
            assert bool(batch.cells[row].all()) == draw.image
            prompt = int(batch.inputs.attention_mask[row].sum()), int((batch.inputs.mm_token_type_ids[row] == 1).sum())
            without = int(processor([None], [[]]).attention_mask.sum())
            assert (prompt[0] <= without + prompt[1] + 2) == draw.text
    with pytest.raises(ConfigError, match="at most 1"):
        config_for(tiny_model, shards, tmp_path, data={"drop": {"text": 0.6, "both": 0.6}})


def test_too_few_samples_and_wrong_mixtures_are_told_before_the_start(
    tiny_model: Path, shards: Path, captioned: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"has 10 samples where a global batch of 48 takes 12 of it"):
        open_data(mixture(tiny_model, tmp_path, pack_many(tmp_path), captioned, batch_size=48), 1)
    with pytest.raises(ConfigError, match="either shards or datasets"):
        config_for(tiny_model, shards, tmp_path, data={"datasets": [{"shards": [str(shards)]}]})
    twice = [{"shards": [str(shards)]}, {"shards": [str(shards)]}]
    with pytest.raises(ConfigError, match="give one of them another name"):
        config_for(tiny_model, shards, tmp_path, data={"shards": [], "datasets": twice})
    none = {"shards": [str(shards)], "mask_statuses": ["misaligned"]}
    with pytest.raises(InputError, match="holds no sample that may be taken"):
        open_data(config_for(tiny_model, shards, tmp_path, data={"shards": [], "datasets": [none]}), 1)


def pack_many(folder: Path) -> Path:
    return pack_rows(folder / "many", [edit_row(number) for number in range(40)])


def test_small_buckets_are_taken_to_the_nearest_and_the_table_says_so(
    tiny_model: Path, drawn: Path, tmp_path: Path
) -> None:
    def opened(batch_size: int) -> TrainingData:
        return open_data(config_for(tiny_model, drawn, tmp_path, batch_size=batch_size, data={"resolution": 256}), 1)

    data = opened(6)
    assert sum(count.samples for count in data.bucket_counts) == 36
    assert all(count.merged_into is None for count in data.bucket_counts)
    data = opened(12)
    assert any(count.merged_into is not None for count in data.bucket_counts)
    assert any("too few to fill it" in line for line in data.lines())
    assert len({data.order.bucket_at(position) for position in range(0, 600, 12)}) >= 2
    assert sorted(set(data.order.samples_at(range(600)).tolist())) == list(range(36))


def test_a_batch_of_the_loaders_processes_is_that_of_none(tiny_model: Path, drawn: Path, tmp_path: Path) -> None:
    config = config_for(tiny_model, drawn, tmp_path, batch_size=3, steps=4, data={"resolution": 128})
    for ours, theirs in zip(batches(changed(config, data={"workers": 1})), batches(config), strict=True):
        assert ours.keys == theirs.keys
        for name in ("target", "cells", "weights", "references"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).stride() == getattr(theirs, name).stride()
