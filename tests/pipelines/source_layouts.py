"""Small data sets in the released layouts of public ones, of real photographs; some rows of each make no pair."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image

SIDE = 96
IMAGE = datasets.Image()
TEXT = datasets.Value("string")


@dataclass
class Layout:
    """A data set on disk.

    Args:
        source: the source's name and config.
        pairs: how many rows make a pair.
        reasons: why the others do not.
        carries: what every pair has in these columns.
    """

    source: dict[str, dict[str, Any]]
    pairs: int
    reasons: Counter[str] = field(default_factory=Counter)
    carries: dict[str, str] = field(default_factory=dict)


@cache
def photograph(number: int) -> np.ndarray:
    """A piece of a photograph, (SIDE, SIDE, 3)."""
    whole = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())[number % 3]
    top, left = (37 * number) % (whole.shape[0] - SIDE), (53 * number) % (whole.shape[1] - SIDE)
    return whole[top : top + SIDE, left : left + SIDE]


def edited(number: int, times: int = 1) -> np.ndarray:
    """The photograph with `times` squares painted in."""
    pixels = photograph(number).copy()
    for time in range(times):
        pixels[10 + 30 * time : 34 + 30 * time, 20:60] = (250 - 60 * time, 20 + 90 * time, 180)
    return pixels


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def before(number: int) -> dict[str, Any]:
    return {"bytes": encoded(photograph(number)), "path": f"{number}-before.png"}


def after(number: int, times: int = 1) -> dict[str, Any]:
    return {"bytes": encoded(edited(number, times)), "path": f"{number}-after.png"}


def pushed(folder: Path, name: str, rows: list[dict[str, Any]], features: dict[str, Any]) -> None:
    """Rows as `push_to_hub` writes them: by the library itself, with its description of the image columns."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    table.to_parquet(str(folder / "data" / name), batch_size=3)


def magicbrush(folder: Path) -> Layout:
    """Four turns of two images and one row without a target; a dev split that must stay out."""
    features = {
        "img_id": TEXT,
        "turn_index": datasets.Value("int32"),
        "source_img": IMAGE,
        "mask_img": IMAGE,
        "instruction": TEXT,
        "target_img": IMAGE,
    }
    rows = []
    for image in (0, 1):
        for turn in (1, 2):
            rows.append(
                {
                    "img_id": str(300 + image),
                    "turn_index": turn,
                    "source_img": before(image) if turn == 1 else after(image),
                    "mask_img": {"bytes": encoded(np.full((SIDE, SIDE, 3), 255, np.uint8)), "path": None},
                    "instruction": f"paint square {turn}",
                    "target_img": after(image, turn),
                }
            )
    bad = {**rows[0], "img_id": "399", "target_img": None}
    pushed(folder, "train-00000-of-00001.parquet", [*rows, bad], features)
    pushed(folder, "dev-00000-of-00001.parquet", rows[:1], features)
    carries = {"source": "MagicBrush", "licence": "CC-BY-4.0"}
    return Layout({"magicbrush": {"paths": str(folder)}}, 4, Counter(image_empty=1), carries)


def omniedit(folder: Path) -> Layout:
    """Five rows with one to three wordings, one without any, and one whose score is low."""
    features = {
        "omni_edit_id": TEXT,
        "task": TEXT,
        "src_img": IMAGE,
        "edited_img": IMAGE,
        "edited_prompt_list": datasets.List(TEXT),
        "width": datasets.Value("int64"),
        "height": datasets.Value("int64"),
        "sc_score_1": datasets.Value("float64"),
        "sc_score_2": datasets.Value("float64"),
        "sc_reasoning": TEXT,
        "pq_score": datasets.Value("int64"),
        "pq_reasoning": TEXT,
        "o_score": datasets.Value("float64"),
    }
    rows = [
        {
            "omni_edit_id": f"task_obj_add_{number}",
            "task": "addition",
            "src_img": before(number),
            "edited_img": after(number),
            "edited_prompt_list": ["add a square", " ", "add a square that is quite pink"][: 1 + number % 3],
            "width": SIDE,
            "height": SIDE,
            "sc_score_1": 9.0,
            "sc_score_2": 9.0,
            "sc_reasoning": "it is there",
            "pq_score": 9,
            "pq_reasoning": "fine",
            "o_score": 9.0,
        }
        for number in range(7)
    ]
    rows[5]["edited_prompt_list"] = []
    rows[6]["o_score"] = 3.0
    pushed(folder, "train-00000-of-00002.parquet", rows[:4], features)
    pushed(folder, "train-00001-of-00002.parquet", rows[4:], features)
    source = {"omniedit": {"paths": str(folder), "minimum_scores": {"o_score": 7}}}
    carries = {"source": "OmniEdit", "licence": "MIT", "edit_type": "addition"}
    return Layout(source, 5, Counter(instruction_missing=1, score_below=1), carries)


def ultraedit(folder: Path) -> Layout:
    """Free-form rows, whose mask column has no type, and region-based ones; one instruction is blank."""
    scores = ("clip_sim_source", "clip_sim_target", "clip_sim_dir", "clip_sim_image", "dinov2_sim", "ssim")
    features = {
        **{name: datasets.Value("float64") for name in scores},
        "source_caption": TEXT,
        "target_caption": TEXT,
        "idx": datasets.Value("int64"),
        "edit_prompt": TEXT,
        "edit_object": datasets.Value("null"),
        "source_image": IMAGE,
        "edited_image": IMAGE,
        "mask_image": datasets.Value("null"),
    }
    rows = [
        {
            **dict.fromkeys(scores, 0.9),
            "source_caption": "a photograph",
            "target_caption": "a photograph with a square",
            "idx": number,
            "edit_prompt": f"add square {number}" if number != 2 else "  ",
            "edit_object": None,
            "source_image": before(number),
            "edited_image": after(number),
            "mask_image": None,
        }
        for number in range(5)
    ]
    pushed(folder, "FreeForm_0-00000-of-00001.parquet", rows[:3], features)
    regions = [{**row, "edit_object": "square", "mask_image": before(0)} for row in rows[3:]]
    pushed(folder, "RegionBase-00000-of-00001.parquet", regions, {**features, "edit_object": TEXT, "mask_image": IMAGE})
    carries = {"source": "UltraEdit", "licence": "CC-BY-4.0"}
    return Layout({"ultraedit": {"paths": str(folder)}}, 4, Counter(instruction_missing=1), carries)


def instructpix2pix(folder: Path) -> Layout:
    """Three rows, the last of them twice."""
    features = {
        "original_prompt": TEXT,
        "original_image": IMAGE,
        "edit_prompt": TEXT,
        "edited_prompt": TEXT,
        "edited_image": IMAGE,
    }
    rows = [
        {
            "original_prompt": "a photograph",
            "original_image": before(number),
            "edit_prompt": f"add square {number}",
            "edited_prompt": "a photograph with a square",
            "edited_image": after(number),
        }
        for number in (0, 1, 2, 2)
    ]
    pushed(folder, "train-00000-of-00001-0ff1ce.parquet", rows, features)
    carries = {"source": "InstructPix2Pix"}
    return Layout({"instructpix2pix": {"paths": str(folder)}}, 3, Counter(repeated_row=1), carries)


def split_tar(folder: Path, name: str, files: dict[str, bytes], part: int) -> None:
    """A tar cut into parts of `part` bytes, as `split -b` cuts it."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    whole = stream.getvalue()
    for number, start in enumerate(range(0, len(whole), part)):
        (folder / f"{name}.tar.split.{number:03d}").write_bytes(whole[start : start + part])


def imgedit(folder: Path) -> Layout:
    """Single turns in one archive, several turns in another, both cut where it hurts; some rows lead nowhere."""
    (folder / "Parquet").mkdir(parents=True)
    root = "results_add_laion_part0"
    files: dict[str, bytes] = {}
    rows = []
    for number in range(4):
        # A name of more than 100 bytes, for which a tar has a header of its own.
        place = f"{root}/{'0' * 90}{number:05d}" if number == 3 else f"./{root}/{number:05d}"
        files[f"{place}/original.png"], files[f"{place}/result.png"] = before(number)["bytes"], after(number)["bytes"]
        names = [f"{place.removeprefix('./')}/{name}.png" for name in ("original", "result")]
        rows.append({"input_images": names[:1], "output_images": names[1:], "prompt": f"add square {number}"})
    rows[1]["input_images"] = ["00001/original.png"]
    files["elsewhere/00002/original.png"] = b"another one"
    bad = [
        {"input_images": ["00002/original.png"], "output_images": rows[2]["output_images"], "prompt": "x"},
        {"input_images": rows[0]["input_images"], "output_images": [f"{root}/none.png"], "prompt": "x"},
        {"input_images": ["../../etc/passwd"], "output_images": rows[0]["output_images"], "prompt": "x"},
        {"input_images": [], "output_images": rows[0]["output_images"], "prompt": "x"},
        {"input_images": rows[0]["input_images"], "output_images": [], "prompt": "x"},
        {"input_images": rows[0]["input_images"], "output_images": rows[0]["output_images"] * 2, "prompt": "x"},
    ]
    schema = pa.schema([("input_images", pa.list_(pa.string())), ("output_images", pa.list_(pa.string()))])
    schema = schema.append(pa.field("prompt", pa.string()))
    pq.write_table(pa.Table.from_pylist(rows + bad, schema=schema), folder / "Parquet" / "add_part0.parquet")
    split_tar(folder / "Singleturn", "add_part0", files, 10_007)

    place = "results_version_backtracking_part0/00031"
    turns = [
        {"input_images": [f"{place}/origin_0.png"], "output_images": [f"{place}/result_0.png"], "prompt": "add one"},
        {"input_images": [], "output_images": [f"{place}/result_1.png"], "prompt": "add another"},
    ]
    files = {
        f"{place}/origin_0.png": before(5)["bytes"],
        f"{place}/result_0.png": after(5)["bytes"],
        f"{place}/result_1.png": after(5, 2)["bytes"],
    }
    turn = pa.struct(list(schema))
    several = pa.table({"data": pa.array([turns, [], None], pa.list_(turn))})
    pq.write_table(several, folder / "Parquet" / "version_backtracking_part0.parquet")
    split_tar(folder / "Multiturn", "results_version_backtracking_part0", files, 20_000)
    reasons = Counter(
        image_ambiguous=1,
        image_not_found=1,
        image_outside=1,
        references_missing=1,
        target_missing=1,
        targets_several=1,
        turns_missing=2,
    )
    return Layout({"imgedit": {"path": str(folder)}}, 6, reasons, {"source": "ImgEdit", "licence": "Apache-2.0"})


def uniworld_data(folder: Path) -> Layout:
    """Edits with one and two references, a sample of understanding, a text-to-image one, and broken ones."""
    images = folder / "data" / "imgedit" / "add"
    (images / "0").mkdir(parents=True)
    (folder / "json").mkdir()
    for number in range(3):
        (images / f"0/{number}-a.png").write_bytes(before(number)["bytes"])
        (images / f"0/{number}-b.png").write_bytes(after(number)["bytes"])

    def element(names: list[str] | str, human: str, gpt: str = "<image>") -> dict[str, Any]:
        turns = [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]
        return {"id": 1, "image": names, "conversations": turns}

    good = [element([f"0/{n}-a.png", f"0/{n}-b.png"], f"<image>\nAdd a square, “{n}”") for n in range(3)]
    good.append(element(["0/0-a.png", "0/0-a.png", "0/0-b.png"], "<image><image>\nPut one into the other"))
    bad: list[tuple[str, Any]] = [
        ("target_missing", element("0/0-a.png", "<image>\nWhat is this?", "A face.")),
        ("references_missing", element("0/0-a.png", "Draw a face")),
        ("image_count", element(["0/0-a.png", "0/0-a.png", "0/0-b.png"], "<image> only one")),
        ("image_not_found", element(["0/9-a.png", "0/0-b.png"], "<image> x")),
        ("image_outside", element(["../../../../../etc/passwd", "0/0-b.png"], "<image> x")),
        ("conversation_missing", {"image": ["0/0-a.png"]}),
        ("element_not_object", 7),
        ("field_type", element({"a": 1}, "x")),  # type: ignore[arg-type]
        ("instruction_missing", element(["0/0-a.png", "0/0-b.png"], "<image>\n ")),
        ("text_not_unicode", element(["0/0-a.png", "0/0-b.png"], "<image> \ud800")),
    ]
    (folder / "json" / "edit.json").write_text(json.dumps([*good[:2], *(one for _, one in bad)], indent=1))
    (folder / "json" / "more.json").write_text("\ufeff" + json.dumps(good[2:], ensure_ascii=False))
    lines = ["data/imgedit/add,json/edit.json,true", "", "data/imgedit/add, json/more.json ,False"]
    (folder / "data.txt").write_text("\n".join(lines))
    carries = {"source": "UniWorld-V1", "licence": "MIT"}
    source = {"uniworld_data": {"path": str(folder / "data.txt"), "rows_per_partition": 5}}
    return Layout(source, 4, Counter(reason for reason, _ in bad), carries)


LAYOUTS = (magicbrush, omniedit, ultraedit, instructpix2pix, imgedit, uniworld_data)
