"""Packed edit samples with known masks, and a run over them."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipelines.pack.config import PackConfig
from pipelines.pack.job import pack
from schemas.config import parse_config
from schemas.images import encode_mask
from schemas.keys import image_key, pair_key
from schemas.masks import MaskStatus
from schemas.records import EDIT_SAMPLE, IMAGE_RECORD
from trainer.config import TrainConfig


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """An image as PNG bytes."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def spoil(folder: Path, key: object, member: str) -> None:
    """Zero the second half of an image in a packed folder, as a failing disk would: sizes stay, pixels are lost."""
    (row,) = [row for row in pq.read_table(folder / "index.parquet").to_pylist() if row["key"] == key]
    path = folder / row["shard"]
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        (found,) = [one for one in archive if one.name.startswith(f"{key}.{member}.")]
    middle = found.offset_data + found.size // 2
    data[middle : found.offset_data + found.size] = bytes(found.size - found.size // 2)
    path.write_bytes(data)


def edit_row(number: int, **changes: object) -> dict[str, object]:
    """An EditSample row of 96 x 64 pixels in which a rectangle was recoloured; the same number gives the same row."""
    generator = np.random.default_rng(number)
    before = np.kron(generator.integers(0, 255, (8, 12, 3), dtype=np.uint8), np.ones((8, 8, 1), dtype=np.uint8))
    mask = np.zeros((64, 96), np.bool_)
    top, left = int(generator.integers(0, 40)), int(generator.integers(0, 70))
    mask[top : top + 16, left : left + 20] = True
    after = before.copy()
    after[mask] = (255, 0, number % 256)
    reference, target = png(before), png(after)
    row: dict[str, object] = {
        "key": pair_key([reference], target, f"paint {number}"),
        "references": [{"bytes": reference, "path": "before.png"}],
        "target": {"bytes": target, "path": "after.png"},
        "instruction": f"paint {number}" + " red" * (number % 5),
        "mask": {"bytes": encode_mask(mask), "path": None},
        "mask_status": "ok",
        "edited_fraction": float(mask.mean()),
        "width": 96,
        "height": 64,
        "mask_recipe": "test",
        "mask_recipe_version": 1,
        "mask_parameters": "{}",
    }
    return {**row, **changes}


def drawn_row(number: int, mask: npt.NDArray[np.bool_], form: str = "PNG", **changes: object) -> dict[str, object]:
    """An EditSample row whose target is white where the mask is and black elsewhere, and its reference the reverse."""
    target = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2)
    images = []
    for pixels in (255 - target, target):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, form, quality=95)
        images.append(stream.getvalue())
    row = {
        "key": pair_key(images[:1], images[1], f"draw {number}"),
        "references": [{"bytes": images[0], "path": "before"}],
        "target": {"bytes": images[1], "path": "after"},
        "instruction": f"draw {number}",
        "mask": {"bytes": encode_mask(mask), "path": None},
        "edited_fraction": float(mask.mean()),
        "width": mask.shape[1],
        "height": mask.shape[0],
    }
    return edit_row(0, **row, **changes)


def caption_row(number: int, width: int = 96, height: int = 64) -> dict[str, object]:
    """An ImageRecord row whose image was fetched."""
    image = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    url = f"https://example.org/{number}"
    return {
        "key": image_key(url, "x"),
        "url": url,
        "caption": f"picture {number}",
        "width": width,
        "height": height,
        "image": {"bytes": png(image), "path": f"{number}.png"},
    }


@dataclass(frozen=True)
class Rows:
    """A pack loader of given rows."""

    rows: tuple[dict[str, object], ...]

    def __call__(self) -> pa.Table:
        record = EDIT_SAMPLE if "target" in self.rows[0] else IMAGE_RECORD
        schema = pa.schema([field.with_nullable(True) for field in record.fields])
        return pa.Table.from_pylist(list(self.rows), schema=schema)


def pack_rows(folder: Path, rows: list[dict[str, object]], per_shard: int = 5, **more: Any) -> Path:
    """Pack rows as WebDataset shards; every mask status is packed."""
    record = "edits" if "target" in rows[0] else "images"
    values = {"formats": ("webdataset",), "samples_per_shard": per_shard, "record": record, **more}
    if record == "edits":
        values["mask_statuses"] = tuple(MaskStatus)
    pack([Rows(tuple(rows))], PackConfig.model_validate(values), folder)
    return folder


def config_for(model: Path, shards: Path, output: Path, **changes: Any) -> TrainConfig:
    """A run of seconds on a CPU in float32. A section in `changes` (`data={"workers": 2}`) changes what it names."""
    values: dict[str, Any] = {
        "model": str(model),
        "output": str(output),
        "stage": "edit",
        "data": {"shards": [str(shards)], "resolution": 64},
        "steps": 4,
        "batch_size": 2,
        "optimizer": {"learning_rate": 1e-3},
        "engine": {"zero_stage": 0, "dtype": "float32"},
        "checkpoints": {"every": 2},
        "seed": 7,
    }
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) and name in values else value
    return parse_config(TrainConfig, values, "test")


def changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The config with other values, given by section as for `config_for`."""
    values = config.as_json()
    for name, value in changes.items():
        values[name] = {**(values[name] or {}), **value} if isinstance(value, dict) else value
    return parse_config(TrainConfig, values, "test")
