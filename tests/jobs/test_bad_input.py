"""Bad input through the real command line: a rejected row with its reason, or one error line and exit code 2."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pair_files import command, editmill, environment, lines_of, write_config, write_pairs
from PIL import Image

from jobs.cli import main
from pipelines.shards.read import open_packed
from schemas.images import decode_mask

HEIGHT, WIDTH = 48, 80
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how a camera would have stored the upright image."""


@dataclass(frozen=True)
class Call:
    """What one call of the command line came to."""

    code: int
    out: str
    err: str


Editmill = Callable[..., Call]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Editmill:
    """The command line in this process, with `tmp_path` as the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Call:
        monkeypatch.setattr(sys, "argv", ["editmill", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return Call(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good pairs, a finished run of masks over them (`masked`) and its shards (`shards`)."""
    folder = tmp_path_factory.mktemp("made")
    write_pairs(folder / "pairs", 6)
    done = editmill("masks", "pairs", "--output", "masked", cwd=folder)
    assert done.returncode == 0, done.stderr
    packed = editmill("pack", "masked", "--output", "shards", "--run-folder", "packing", cwd=folder)
    assert packed.returncode == 0, packed.stderr
    return folder


def refused(call: Call, *words: str) -> None:
    """Assert that the call ended with one clear line and exit code 2."""
    lines = call.err.strip().splitlines()
    assert call.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), call
    assert all(word in lines[0] for word in words), lines[0]
    assert not call.out


def outcomes(run: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((run / "outcomes").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def write_images(folder: Path) -> dict[str, str | None]:
    """Pairs of every kind of image; returns pair name -> the reason it must be rejected for, None where it is good."""
    folder.mkdir()
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    before = np.stack([40 + columns, 40 + rows, np.full_like(rows, 90)], -1).astype(np.uint8)
    after = before.copy()
    after[8:24, 16:48] = (240, 240, 20)
    expected: dict[str, str | None] = {}
    lines: list[dict[str, str]] = []

    def add(name: str, reference: str, target: str, reason: str | None = None) -> None:
        expected[name] = reason
        lines.append({"reference": reference, "target": target, "instruction": name})

    def pair(name: str, suffix: str, change: Callable[[np.ndarray], Image.Image], **options: Any) -> None:
        for side, pixels in (("before", before), ("after", after)):
            change(pixels).save(folder / f"{name}-{side}{suffix}", **options)
        add(name, f"{name}-before{suffix}", f"{name}-after{suffix}")

    def target(name: str, data: bytes, reason: str | None, suffix: str = ".png") -> None:
        (folder / f"{name}{suffix}").write_bytes(data)
        add(name, "plain-before.png", f"{name}{suffix}", reason)

    pair("plain", ".png", Image.fromarray)
    pair("cmyk", ".jpg", lambda pixels: Image.fromarray(pixels).convert("CMYK"), quality=95)
    pair("palette", ".png", lambda pixels: Image.fromarray(pixels).quantize(64))
    pair("see_through_palette", ".png", lambda pixels: Image.fromarray(pixels).quantize(64), transparency=63)
    pair("rgba", ".png", lambda pixels: Image.fromarray(pixels).convert("RGBA"))
    pair("grey16", ".png", lambda pixels: Image.fromarray(pixels[..., 0].astype(np.uint16) * 257))
    pair("gif", ".gif", Image.fromarray, save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        turn = TURNED.get(orientation)
        pair(
            f"turned{orientation}",
            ".jpg",
            lambda pixels, turn=turn: (
                Image.fromarray(pixels) if turn is None else Image.fromarray(pixels).transpose(turn)
            ),
            exif=exif,
            quality=95,
        )
    whole = (folder / "plain-after.png").read_bytes()
    target("lying", whole, None, ".jpg")
    target("cut", whole[: len(whole) // 2], "image_truncated")
    broken = bytearray(whole)
    middle = whole.index(b"IDAT") + 20
    broken[middle : middle + 20] = bytes(20)
    target("broken", bytes(broken), "image_corrupt")
    target("empty", b"", "image_empty")
    target("page", b"<html>404</html>", "image_format_unknown", ".jpg")
    target("enormous", png_header(60000, 60000), "image_too_large")
    target("large", png_header(9000, 9000), "image_too_large")
    Image.fromarray(after[:40, :64]).save(folder / "smaller.png")
    add("smaller", "plain-before.png", "smaller.png", "size_mismatch")
    add("nowhere", "plain-before.png", "nowhere.png", "image_not_found")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return expected


def test_images_of_every_kind_are_upright_samples_or_rejected_with_a_reason(call: Editmill, tmp_path: Path) -> None:
    expected = write_images(tmp_path / "pairs")
    config = write_config(tmp_path / "images.yaml", tmp_path / "pairs", pack={})
    done = call("run", config)
    assert done.code == 0, done.err
    rejected = sorted(row["reason"] for row in outcomes(tmp_path / "images"))
    assert rejected == sorted(reason for reason in expected.values() if reason is not None)
    assert all(reason in done.out for reason in rejected)
    packed = {row["instruction"]: row for row in open_packed(tmp_path / "images" / "shards").samples()}
    assert set(packed) == {name for name, reason in expected.items() if reason is None}
    for name, row in packed.items():
        mask = decode_mask(row["mask"]["bytes"])
        assert (row["height"], row["width"]) == mask.shape == (HEIGHT, WIDTH), name
        if name.startswith("turned"):
            assert mask[10:22, 18:46].all() and not mask[30:].any() and not mask[:, 56:].any(), name


LINES: list[tuple[bytes, str | None]] = [
    (b'\xef\xbb\xbf{"reference": "b.png", "target": "a.png", "instruction": "after a BOM"}', None),
    (b"{bad json", "line_not_json"),
    (b"  ", "blank"),
    ('{"reference": "b.png", "target": "a.png", "instruction": "café"}'.encode("latin-1"), "line_not_json"),
    (b"[1, 2]", "line_not_object"),
    (b"[" * 100_000, "line_not_json"),
    (b'{"target": "a.png", "instruction": "x"}', "field_missing"),
    (b'{"reference": "b.png", "instruction": "x"}', "field_missing"),
    (b'{"reference": "b.png", "target": "a.png"}', "instruction_missing"),
    (b'{"reference": "b.png", "target": "a.png", "instruction": " "}', "instruction_missing"),
    (b'{"reference": "b.png", "target": "a.png", "instruction": 5}', "field_type"),
    (b'{"reference": "b.png", "target": "a.png", "instruction": "\\ud800"}', "text_not_unicode"),
    (b'{"reference": "b.png", "target": "/etc/passwd", "instruction": "x"}', "image_outside"),
    (b'{"reference": "b.png", "target": "../pairs/../a.png", "instruction": "x"}', "image_outside"),
    (b'{"reference": "b.png", "target": ".", "instruction": "x"}', "image_not_found"),
    (b'{"reference": "b.png", "target": "a\\u0000.png", "instruction": "x"}', "image_not_found"),
    (b'{"reference": "b.png", "target": "a.png", "instruction": "twice"}', None),
    (b'{"reference": "b.png", "target": "a.png", "instruction": "twice"}', "repeated_row"),
    (b'{"reference": "b.png", "target": "odd name;%s\'.png", "instruction": "odd"}', None),
    (b'{"reference": "b.png", "target": "a.png", "instruction": "' + b"y" * 1_000_000 + b'"}', None),
]
"""A line of JSONL and what becomes of it: kept, the reason of its rejection, or no row at all."""


def test_lines_of_every_kind_are_rows_or_rejected_with_a_reason(call: Editmill, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    before = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    after = before.copy()
    after[8:24, 16:48] = 230
    Image.fromarray(before).save(folder / "b.png")
    for name in ("a.png", "odd name;%s'.png"):
        Image.fromarray(after).save(folder / name)
    (folder / "pairs.jsonl").write_bytes(b"\n".join(line for line, _ in LINES))
    assert call("masks", "pairs", "--output", "masked").code == 0
    reasons = sorted(row["reason"] for row in outcomes(tmp_path / "masked"))
    assert reasons == sorted(reason for _, reason in LINES if reason not in (None, "blank"))
    assert call("pack", "masked", "--output", "shards").code == 0
    assert call("validate", "shards").code == 0
    # A text of a million letters must not be measured letter by letter.
    assert call("preview", "shards", "--terminal", "none").code == 0


WRONG_CONFIGS: list[tuple[Any, tuple[str, ...]]] = [
    ({"bogus": 1}, ("bogus", "not a known key")),
    ({"pack": {"sample_per_shard": 3}}, ("pack.sample_per_shard", "Did you mean 'samples_per_shard'?")),
    ({"steps": [{"masks": {"parameters": {"low_thresold": 3}}}]}, ("Did you mean 'low_threshold'?",)),
    ({"pack": {"samples_per_shard": 0}}, ("pack.samples_per_shard", "greater than or equal to 1")),
    ({"steps": [{"masks": {"max_pixels": "many"}}]}, ("max_pixels", "valid integer")),
    ({"steps": [{"mask": {}}]}, ("Did you mean 'masks'?",)),
    ({"source": {"nothing": {}}}, ("is no known source",)),
    ({"steps": []}, ("needs column 'mask'",)),
    ({"steps": [{"recaption": {"backend": {"kind": "transformers", "model": "pairs"}, "column": "target"}}]}, ()),
    ("", ("mapping",)),
    ("- a\n- b\n", ("mapping",)),
    ("name: [1, 2", ("line 1", "must be YAML")),
    ("name: a\nsteps: []\nname: b\n", ("line 3", "'name' stands twice")),
    (b"\xff\xfe\x00", ("cannot be read",)),
]


@pytest.mark.parametrize(("change", "words"), WRONG_CONFIGS, ids=[str(words)[:40] for _, words in WRONG_CONFIGS])
def test_a_wrong_config_is_one_line(
    call: Editmill, made: Path, tmp_path: Path, change: Any, words: tuple[str, ...]
) -> None:
    path = tmp_path / "wrong.yaml"
    if isinstance(change, dict):
        write_config(path, made / "pairs", **change)
    else:
        path.write_bytes(change if isinstance(change, bytes) else change.encode())
    refused(call("run", path), *words)
    assert not (tmp_path / "wrong").exists()


def test_tables_that_are_none_are_one_line(call: Editmill, tmp_path: Path) -> None:
    table = pa.table({"URL": ["a", "b"], "WIDTH": [600, 300]})
    for name, content in {"good": table, "rowless": table.slice(0, 0), "nameless": table.drop(["URL"])}.items():
        pq.write_table(content, tmp_path / f"{name}.parquet")
    whole = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "text.parquet").write_bytes(b"this is no Parquet at all")
    (tmp_path / "zero.parquet").write_bytes(b"")
    (tmp_path / "damaged.parquet").write_bytes(whole[:6] + bytes(34) + whole[40:])
    (tmp_path / "nothing").mkdir()
    refused(call("filter", "good.parquet", "--output", "out", "--min-aesthetic", "5"), "no column for 'aesthetic'")
    refused(call("filter", "good.parquet", "--output", "out", "--min-aesthetic", "50"), "outside the declared")
    refused(call("filter", "nameless.parquet", "--output", "out"), "image's address")
    refused(call("filter", "rowless.parquet", "--output", "out"), "hold no row")
    refused(call("filter", "text.parquet", "--output", "out"), "no whole Parquet")
    refused(call("filter", "zero.parquet", "--output", "out"), "no whole Parquet")
    refused(call("filter", "nothing", "--output", "out"), "without *.parquet files")
    refused(call("filter", "nowhere.parquet", "--output", "out"), "does not exist")
    assert not (tmp_path / "out").exists()
    refused(call("filter", "damaged.parquet", "--output", "out", "--min-width", "5"), "cannot be read")


def test_places_that_are_taken_are_refused_before_a_row_is_read(call: Editmill, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "masked", tmp_path / "masked")
    shutil.copytree(made / "pairs", tmp_path / "pairs")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text('{"name": "a web site"}')
    refused(call("masks", "pairs", "--output", "file"), "is a file")
    refused(call("masks", "pairs", "--output", "file/run"), "is a file")
    refused(call("masks", "pairs", "--output", "mine"), "notes.txt")
    refused(call("masks", "pairs", "--output", "site"), "of no run")
    refused(call("masks", "pairs", "--output", "pairs"), "no run wrote")
    refused(call("masks", "masked", "--output", "masked"), "is the run that is read")
    for output, words in (("file", "is a file"), ("file/shards", "is a file"), ("mine", "notes.txt")):
        refused(call("pack", "masked", "--output", output, "--run-folder", "packing"), words)
    refused(call("pack", "masked", "--output", "both", "--run-folder", "both"), "must not hold the run folder")
    refused(call("pack", "masked", "--output", "shards", "--run-folder", "masked"), "is the run that is read")
    refused(call("preview", made / "shards", "--output", "file", "--terminal", "none"), "cannot be written")
    assert not (tmp_path / "packing").exists() and not (tmp_path / "both").exists()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_folders_that_are_no_shards_and_no_run_are_one_line(call: Editmill, made: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "file", made / "pairs"):
        refused(call("validate", name))
        refused(call("pack", name, "--output", "shards"), "run folder")
    assert call("validate", made / "masked").out.count("in a run folder that is shards/") == 1
    assert call("preview", made / "masked", "--terminal", "none").code == 0
    refused(call("preview", "nowhere"), "does not exist")
    refused(call("preview", "file"), "none of 1 can be shown", "no JSON")
    refused(call("preview", "empty"), "no two whose names make them a pair")
    unfinished = shutil.copytree(made / "masked", tmp_path / "unfinished") / "manifest.json"
    unfinished.write_text(json.dumps({**json.loads(unfinished.read_text()), "status": "running"}))
    refused(call("pack", "unfinished", "--output", "shards"), "did not finish")
    refused(call("preview", "unfinished"), "did not finish")


@pytest.mark.parametrize("name", ["webdataset/edits-000000.tar", "manifest.json", "index.parquet"])
def test_damaged_shards_are_found_and_never_a_traceback(call: Editmill, made: Path, tmp_path: Path, name: str) -> None:
    whole = (made / "shards" / name).read_bytes()
    for number, data in enumerate((whole[: len(whole) // 2], b"", None)):
        folder = shutil.copytree(made / "shards", tmp_path / f"shards{number}")
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)
        found = call("validate", folder)
        assert found.code == 1 and any(name in line for line in found.out.splitlines()), found
        assert all(line.count("\t") == 2 for line in found.out.splitlines())
        refused(call("preview", folder, "--terminal", "none"))


def test_an_edit_is_refused_before_the_model_is_loaded(call: Editmill, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    Image.new("RGB", (64, 48)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    def edit(image: str = "good.png", instruction: str = "x", output: str = "out.png", *more: str) -> Call:
        return call(
            "edit", "--checkpoint", "nowhere", "--image", image, "--instruction", instruction, "--output", output, *more
        )

    refused(edit(image="bad.png"), "bad.png")
    refused(edit("good.png", "x", "out.png", "--width", "50"), "multiple of 16")
    refused(edit(instruction="  "), "must not be empty")
    refused(edit(instruction="y" * 100_000), "100000 characters")
    refused(edit(output="good.png/out.png"), "is a file")
    refused(edit(), "nowhere")


def hear_ctrl_c() -> None:
    """What a shell starts in its background does not hear Ctrl-C, nor does what that starts in turn."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_goes_on(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", 30, side=400)
    config = write_config(tmp_path / "broken.yaml", pairs)
    process = subprocess.Popen(
        command("run", str(config)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=hear_ctrl_c,
    )
    deadline = time.monotonic() + 240
    while not list((tmp_path / "broken").glob("steps/01-masks/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 130, told
    assert told.splitlines()[-1].startswith("interrupted: ") and "Traceback" not in told
    assert editmill("run", config).returncode == 0
    assert editmill("run", write_config(tmp_path / "whole.yaml", pairs)).returncode == 0
    first, second = (sorted((tmp_path / name / "shards").rglob("*.*")) for name in ("broken", "whole"))
    assert [path.read_bytes() for path in first if path.is_file()] == [
        path.read_bytes() for path in second if path.is_file()
    ]


def test_a_write_that_fails_leaves_nothing_under_a_final_name(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", 6)
    config = write_config(tmp_path / "full.yaml", pairs, pack={})

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))

    full = subprocess.run(
        command("run", str(config)), capture_output=True, text=True, env=environment(), preexec_fn=small_files_only
    )
    (error,) = lines_of(full)
    assert full.returncode == 2 and "cannot be written" in error and "Traceback" not in full.stderr
    left = [path.name for path in (tmp_path / "full" / "shards").rglob("*") if path.is_file()]
    assert sorted(left) == ["job.json", "lock"]
    assert editmill("run", config).returncode == 0


@pytest.mark.slow
def test_the_error_line_is_the_same_under_both_runners(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "masked", tmp_path / "masked")
    (records,) = (tmp_path / "masked" / "records").iterdir()
    data = bytearray(records.read_bytes())
    data[len(data) // 2] ^= 1
    records.write_bytes(data)
    told = []
    for runner in ("in_process", "ray"):
        path = tmp_path / f"{runner}.yaml"
        kind = {"kind": runner, **({"workers": 2} if runner == "ray" else {})}
        source = {"run_records": {"path": "masked"}}
        values = {"name": runner, "output": runner, "source": source, "steps": [{"masks": {}}], "runner": kind}
        path.write_text(yaml.safe_dump(values))
        process = editmill("run", path, cwd=tmp_path)
        assert process.returncode == 2 and "Traceback" not in process.stderr
        told.append(lines_of(process))
    assert told[0] == told[1] and "is not the file that was committed" in told[0][0]


def write_training(folder: Path, made: Path, output: str) -> Path:
    values = {
        "model": "nowhere",
        "data": {"shards": [str(made / "shards")]},
        "output": output,
        "steps": 2,
        "engine": {"dtype": "float32"},
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
def test_a_training_writes_only_where_it_may(made: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for output, words in ((tmp_path / "file" / "run", "is a file"), (made / "masked", "no training wrote")):
        process = editmill("train", write_training(tmp_path, made, str(output)), cwd=tmp_path)
        assert process.returncode == 2 and "Traceback" not in process.stderr
        (error,) = lines_of(process)
        assert words in error


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found through /proc")
def test_ctrl_c_ends_all_ranks_without_a_traceback(made: Path, tmp_path: Path) -> None:
    call = command("train", str(write_training(tmp_path, made, "run")), "--processes", "2")
    process = subprocess.Popen(
        call,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 240
    while len(children.read_text().split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    # As a terminal does: to every process of the group. The ranks are still reading their libraries.
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=240)
    assert "Traceback" not in told
    assert process.returncode == 130 and told.splitlines()[-1].startswith("interrupted: "), told
