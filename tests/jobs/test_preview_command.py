"""`editmill preview` over shards that were really packed, from real photographs."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from jobs.preview_job import PreviewOptions, write_preview
from jobs.samples.open import open_samples
from pipelines.pack import PackConfig, pack
from pipelines.preview.look import plain
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError, OutputError, ShardError
from schemas.images import encode_mask
from schemas.keys import image_key, pair_key
from schemas.masks import MaskStatus, max_pool
from schemas.records import EDIT_SAMPLE, IMAGE_RECORD
from schemas.weighting import region_weight

STATUSES = ("ok", "ok", "ok", "global", "unchanged", "too_small")
EVIL = "<script>alert(1)</script> make it \x1b[31mred"


@dataclass(frozen=True)
class Rows:
    """A partition of given rows."""

    table: pa.Table

    def __call__(self) -> pa.Table:
        return self.table


def encoded(picture: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, form)
    return stream.getvalue()


def photographs() -> list[np.ndarray]:
    data = pytest.importorskip("skimage.data", reason="the photographs come with scikit-image")
    return [np.ascontiguousarray(picture[::2, ::2]) for picture in (data.coffee(), data.astronaut(), data.chelsea())]


def edit_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    pictures = photographs()
    for number, status in enumerate(STATUSES):
        picture = pictures[number % 3]
        height, width = picture.shape[:2]
        mask = np.zeros((height, width), bool)
        if status != "unchanged":
            mask[: height if status == "global" else 40 + number, : width if status == "global" else 60] = True
        target = picture.copy()
        target[mask] = target[mask][:, ::-1]
        reference, after = encoded(picture, "JPEG"), encoded(target, "PNG")
        instruction = EVIL if number == 0 else f"recolour the corner, number {number}"
        rows.append(
            {
                "key": pair_key([reference], after, instruction),
                "references": [{"bytes": reference, "path": "a.jpg"}] * (1 + number % 2),
                "target": {"bytes": after, "path": "b.png"},
                "instruction": instruction,
                "edit_type": "recolour",
                "mask": {"bytes": encode_mask(mask), "path": None},
                "mask_status": status,
                "edited_fraction": float(mask.mean()),
                "width": width,
                "height": height,
                "mask_recipe": "seed",
                "mask_recipe_version": 1,
                "mask_parameters": "{}",
            }
        )
    return rows


def image_rows() -> list[dict[str, object]]:
    return [
        {
            "key": image_key(f"file:{number}", "x"),
            "url": f"file:{number}",
            "caption": f"alt text {number}",
            "width": picture.shape[1],
            "height": picture.shape[0],
            "aesthetic": 6.5,
            "image": {"bytes": encoded(picture, "JPEG"), "path": f"{number}.jpg"},
            "captions": [{"text": "A photograph, described at length.", "kind": "long", "model": "tiny"}],
        }
        for number, picture in enumerate(photographs())
    ]


def packed(folder: Path, rows: list[dict[str, object]], record: str = "edits") -> Path:
    fields = EDIT_SAMPLE.fields if record == "edits" else IMAGE_RECORD.fields
    schema = pa.schema([field.with_nullable(True) for field in fields])
    config = parse_config(PackConfig, {"record": record, "mask_statuses": list(MaskStatus)}, "test")
    pack([Rows(pa.Table.from_pylist(rows, schema=schema))], config, folder)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("packed") / "shards", edit_rows())


def test_the_command_writes_sheet_and_page_and_says_where(shards: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["preview", str(shards), "--output", str(tmp_path / "look")])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output, "no pictures where the output is no terminal"
    sheet, page = tmp_path / "look" / "contact-sheet.png", tmp_path / "look" / "preview.html"
    assert str(sheet) in result.output.replace("\n", "") and str(page) in result.output.replace("\n", "")
    with Image.open(sheet) as image:
        assert image.mode == "RGB" and image.width > 1500
    html = page.read_text()
    assert html.count("<article") == 6 and "<script>alert" not in html and "&lt;script&gt;alert" in html


def test_the_weight_told_is_the_one_of_the_mask(shards: Path, tmp_path: Path) -> None:
    options = PreviewOptions(weighting="exponential_root", max_weight=20.0)
    written = write_preview(open_samples(shards), tmp_path, options)
    html = written.page.read_text()
    told = 0
    for row, card in ((row, card) for row in edit_rows() for card in written.cards if card.key == row["key"]):
        with Image.open(io.BytesIO(row["mask"]["bytes"])) as image:  # type: ignore[index]
            cells = max_pool(np.asarray(image))
        if cells.any():
            weight = float(region_weight("exponential_root", cells.size / cells.sum(), 20.0))
            assert dict(card.facts)["w"] == f"{weight:.2f}"
            assert f"w = {weight:.2f} edited" in html
            told += 1
    assert told == 5


def test_the_same_seed_shows_the_same_samples_and_every_status(shards: Path, tmp_path: Path) -> None:
    first = write_preview(open_samples(shards), tmp_path / "a", PreviewOptions(count=4, seed=3))
    again = write_preview(open_samples(shards), tmp_path / "b", PreviewOptions(count=4, seed=3))
    assert first.page.read_bytes() == again.page.read_bytes()
    assert first.sheets[0].read_bytes() == again.sheets[0].read_bytes()
    assert {card.status for card in first.cards} == set(STATUSES)


@pytest.mark.parametrize(("terminal", "mark"), [("kitty", "\x1b_Ga=T"), ("sixel", "\x1bP0;1;0q"), ("blocks", "▀")])
def test_pictures_are_printed_in_the_protocol_asked_for(shards: Path, tmp_path: Path, terminal: str, mark: str) -> None:
    arguments = ["preview", str(shards), "--output", str(tmp_path), "--terminal", terminal]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.output.count(mark) >= 6
    assert "\x1b[31m" not in result.output, "an instruction cannot steer the terminal"


def test_image_caption_shards_show_the_caption_a_model_wrote(tmp_path: Path) -> None:
    folder = packed(tmp_path / "captions", image_rows(), "images")
    result = CliRunner().invoke(
        app, ["preview", str(folder), "--output", str(tmp_path / "look"), "--terminal", "blocks"]
    )
    assert result.exit_code == 0, result.output
    html = (tmp_path / "look" / "preview.html").read_text()
    assert html.count("A photograph, described at length.</h2>") == 3 and "alt text 1" in html


def test_a_sample_that_cannot_be_decoded_is_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = packed(tmp_path / "broken", edit_rows())
    index = pq.read_table(folder / "index.parquet").to_pylist()[1]
    shard = folder / index["shard"]
    data = bytearray(shard.read_bytes())
    target = data.index(b"IDAT", data.index(b".target.png", index["offset"]))
    data[target + 40 : target + 1040] = bytes(1000)
    shard.write_bytes(data)
    result = CliRunner().invoke(app, ["preview", str(folder), "--output", str(tmp_path / "look")])
    assert result.exit_code == 1
    assert index["key"] in result.output
    assert (tmp_path / "look" / "preview.html").read_text().count("<article") == 5


def test_wrong_calls_are_told_before_anything_is_written(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a cap"):
        write_preview(open_samples(shards), tmp_path / "look", PreviewOptions(weighting="exponential_root"))
    with pytest.raises(InputError, match="no two whose names make them a pair"):
        write_preview(open_samples(tmp_path), tmp_path / "look", PreviewOptions())
    cut = shutil.copytree(shards, tmp_path / "cut")
    for shard in (cut / "webdataset").glob("*.tar"):
        shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(ShardError, match=r"cut off|one sample"):
        write_preview(open_samples(cut), tmp_path / "look", PreviewOptions())
    assert not (tmp_path / "look").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_preview(open_samples(shards), tmp_path / "file", PreviewOptions())


def test_text_for_a_terminal_is_one_harmless_line() -> None:
    assert plain("a\x1b[2J\nb\tc\x07 größer 杯\u202e") == "a[2J b c größer 杯"
