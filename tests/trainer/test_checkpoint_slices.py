"""Slices of tensors: written by any number of ranks, read by any other; and which checkpoints are kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from schemas.errors import InputError, OutputError
from trainer.checkpoints.ema import ShardedEma
from trainer.checkpoints.retention import best_step, steps_to_delete
from trainer.checkpoints.room import bytes_needed, check_room, checkpoint_bytes
from trainer.checkpoints.shard_bounds import shard_bounds
from trainer.checkpoints.slices import Slice, SliceReader, write_slices
from trainer.config import EmaConfig
from trainer.distributed import Ranks


def ranks(rank: int, world: int) -> Ranks:
    return Ranks(rank, world, rank, torch.device("cpu"))


def write(folder: Path, tensors: dict[str, torch.Tensor], world: int) -> list[Path]:
    """Each tensor cut for so many ranks."""
    paths = []
    for rank in range(world):
        slices = {}
        for name, values in tensors.items():
            start, stop = shard_bounds(len(values), rank, world)
            slices[name] = Slice(start, len(values), values[start:stop])
        paths.append(folder / f"file-{rank}.safetensors")
        write_slices(paths[-1], slices, {"rank": rank})
    return paths


@given(
    world=st.integers(1, 5),
    other=st.integers(1, 7),
    lengths=st.lists(st.integers(1, 23), min_size=1, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.uint8, torch.int64]),
)
def test_what_some_ranks_wrote_any_others_read(
    tmp_path_factory: pytest.TempPathFactory, world: int, other: int, lengths: list[int], dtype: torch.dtype
) -> None:
    folder = tmp_path_factory.mktemp("slices")
    tensors = {f"t{place}": torch.arange(length).to(dtype) for place, length in enumerate(lengths)}
    # A wide and a narrow dtype side by side: each must still begin where its elements may.
    tensors["bytes"] = torch.arange(5, dtype=torch.uint8)
    with SliceReader(write(folder, tensors, world)) as reader:
        assert reader.totals == {name: len(values) for name, values in tensors.items()}
        assert [notes["rank"] for notes in reader.notes] == list(range(world))
        for name, values in tensors.items():
            assert reader.dtype(name) == values.dtype
            for rank in range(other):
                start, stop = shard_bounds(len(values), rank, other)
                out = torch.empty(stop - start, dtype=values.dtype)
                reader.read_into(name, start, out)
                assert torch.equal(out, values[start:stop])


def test_a_file_is_plain_safetensors_and_a_lost_or_torn_one_is_told(tmp_path: Path) -> None:
    values = torch.randn(10)
    paths = write(tmp_path, {"w": values}, 2)
    assert torch.equal(load_file(paths[1])["w"], values[5:])
    with SliceReader(paths[:1]) as reader, pytest.raises(InputError, match="elements 5 to 10 of w are in no file"):
        reader.read_into("w", 0, torch.empty(10))
    paths[1].write_bytes(paths[1].read_bytes()[:-3])
    with pytest.raises(InputError, match=r"file-1.safetensors"), SliceReader(paths):
        pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_average_lies_where_it_is_told_and_is_cut_anew(tmp_path: Path, dtype: torch.dtype) -> None:
    parameters = {
        name: torch.nn.Parameter(torch.randn(shape).to(dtype)) for name, shape in {"a": (7, 3), "b": 2}.items()
    }
    averages = {
        (device, rank): ShardedEma(parameters, ranks(rank, 3), EmaConfig(device=device))
        for device in ("same", "cpu")
        for rank in range(3)
    }
    for _ in range(4):
        for parameter in parameters.values():
            parameter.data += 1
        for average in averages.values():
            average.update()
    for rank in range(3):
        beside, on_cpu = averages["same", rank].shards, averages["cpu", rank].shards
        assert all(torch.equal(values, on_cpu[name]) for name, values in beside.items())
        averages["same", rank].save(tmp_path / f"ema-{rank}.safetensors")
    fresh = [ShardedEma(parameters, ranks(rank, 2), EmaConfig()) for rank in range(2)]
    with SliceReader(sorted(tmp_path.glob("ema-*"))) as reader:
        for average in fresh:
            average.load(reader, 4)
    assert fresh[0].updates == 4
    for name in parameters:
        whole = torch.cat([averages["same", rank].shards[name] for rank in range(3)])
        assert torch.equal(torch.cat([average.shards[name] for average in fresh]), whole)


def test_the_last_and_the_best_are_kept() -> None:
    steps = [10, 20, 30, 40]
    assert steps_to_delete(steps, {}, 2, True) == [10, 20]
    assert steps_to_delete(steps, {10: 0.5, 20: 0.4, 40: 0.9}, 1, True) == [10, 30]
    assert steps_to_delete(steps, {10: 0.5, 20: 0.4, 40: 0.9}, 1, False) == [10, 20, 30]
    assert best_step({20: 0.4, 10: 0.4, 5: float("nan")}, True) == 10
    assert best_step({}, True) is None


def test_room_is_counted_with_one_checkpoint_more_than_is_kept() -> None:
    assert checkpoint_bytes(10, 8, True) == 160 and checkpoint_bytes(10, 2, False) == 60
    assert bytes_needed(100, 30, there=0, coming=9, kept=2) == 300
    assert bytes_needed(100, 130, there=0, coming=9, kept=2) == 330
    assert bytes_needed(100, 30, there=0, coming=1, kept=2) == 130
    assert bytes_needed(100, 30, there=3, coming=9, kept=2) == 30


def test_a_disk_without_room_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_room(tmp_path / "run", 1, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=3 * 2**30))
    with pytest.raises(OutputError, match=r"3.0 GiB free.*2.0 GiB each.*4.0 GiB"):
        check_room(tmp_path / "run", 4 * 2**30, 2 * 2**30)
