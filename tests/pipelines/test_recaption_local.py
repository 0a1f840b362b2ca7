"""Recaptioning with a real Qwen2.5-VL in this process: tiny and random, so its captions are whole but mean nothing."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("transformers")

from pipelines.recaption import Recaption, RecaptionConfig
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError
from schemas.records import IMAGE_TYPE


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from unified_model.tiny import build_tiny

    folder = tmp_path_factory.mktemp("recaption") / "tiny"
    build_tiny(seed=0).save_pretrained(folder)
    return folder / "vlm"


def picture(seed: int, height: int, width: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def rows(*images: bytes | None) -> pa.Table:
    structs = [None if image is None else {"bytes": image, "path": "picture.png"} for image in images]
    return pa.table(
        {"key": [f"{number:032x}" for number in range(len(images))], "image": pa.array(structs, IMAGE_TYPE)}
    )


def step(model: Path, batch_size: int = 3, **values: Any) -> Recaption:
    backend = {"kind": "transformers", "model": str(model), "batch_size": batch_size, "device": "cpu"}
    given = {"backend": backend, "prompt": "caption_long.v1", **values}
    return Recaption(parse_config(RecaptionConfig, given, "recaption"))


IMAGES = (picture(0, 64, 64), picture(1, 60, 112), picture(2, 200, 80), picture(3, 56, 56))


def test_captions_end_by_themselves_and_do_not_depend_on_the_batch(model_folder: Path) -> None:
    recaption = step(model_folder)
    recaption.preflight()
    recaption.setup()
    calls: list[dict[str, Any]] = []

    def note_inputs(module: Any, positional: Any, inputs: dict[str, Any]) -> None:
        calls.append(inputs)

    watching = recaption.asker.inner._model.register_forward_pre_hook(note_inputs, with_kwargs=True)
    result = recaption(rows(IMAGES[0], None, IMAGES[1], b"no image", *IMAGES[2:]))
    watching.remove()
    assert result.rejected["reason"].to_pylist() == ["image_missing", "image_format_unknown"]
    captions = [row[0] for row in result.kept["captions"].to_pylist()]
    assert len(captions) == 4
    prompt = Path(sys.modules["pipelines.recaption.prompt"].__file__ or "").parent / "prompts" / "caption_long.v1.yaml"
    for caption in captions:
        assert 20 <= len(caption["text"]) <= 2000
        assert caption["model"] == "tiny/vlm", "no path of this machine is stored"
        assert (caption["prompt"], caption["prompt_version"], caption["kind"]) == ("caption_long", 1, "long")
        assert caption["prompt_sha256"] == hashlib.sha256(prompt.read_bytes()).hexdigest()
    # Without mm_token_type_ids M-RoPE silently falls back to text positions, where height and width are the same.
    first = calls[0]
    assert first["mm_token_type_ids"].any()
    *_, by_height, by_width = first["position_ids"]
    assert not by_height.equal(by_width)
    one_by_one = step(model_folder, batch_size=1)(rows(*IMAGES))
    assert [row[0]["text"] for row in one_by_one.kept["captions"].to_pylist()] == [
        caption["text"] for caption in captions
    ]


def test_memory_that_does_not_hold_a_batch_halves_it_and_costs_one_row_at_most(model_folder: Path) -> None:
    import torch

    expected = step(model_folder)(rows(*IMAGES)).kept["captions"].to_pylist()
    recaption = step(model_folder, batch_size=4)
    recaption.setup()
    sizes: list[int] = []
    model: Any = recaption.asker.inner._model

    def cramped(module: Any, positional: Any, inputs: dict[str, Any]) -> None:
        grid = inputs["grid_thw"]
        sizes.append(len(grid))
        # The third picture, the tall one, never fits.
        if len(grid) > 1 or int(grid[0, 1]) >= 2 * int(grid[0, 2]):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    watching = model.model.visual.register_forward_pre_hook(cramped, with_kwargs=True)
    result = recaption(rows(*IMAGES))
    watching.remove()
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert result.rejected["reason"].to_pylist() == ["out_of_memory"]
    assert result.kept["captions"].to_pylist() == [*expected[:2], expected[3]]


def test_a_reply_that_is_cut_off_is_rejected(model_folder: Path) -> None:
    result = step(model_folder, max_new_tokens=4)(rows(*IMAGES))
    assert result.kept.num_rows == 0
    assert set(result.rejected["reason"].to_pylist()) == {"caption_truncated"}


def test_preflight_names_what_is_wrong_with_the_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no readable config\.json"):
        step(tmp_path).preflight()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ConfigError, match="must be a qwen2_5_vl model"):
        step(tmp_path).preflight()
    with pytest.raises(InputError, match="neither a folder nor a model"):
        step(tmp_path / "missing").preflight()


def test_the_step_is_made_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pipelines.recaption import Recaption, RecaptionConfig\n"
        "Recaption(RecaptionConfig(backend={'kind': 'transformers', 'model': 'm'}))\n"
        "heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_only_a_model_in_the_worker_itself_wants_a_gpu(tmp_path: Path) -> None:
    backends = {
        True: [{"kind": "transformers", "model": "m"}, {"kind": "transformers", "model": "m", "device": "cuda"}],
        False: [
            {"kind": "transformers", "model": "m", "device": "cpu"},
            {"kind": "openai", "url": "http://127.0.0.1:1/v1", "model": "m"},
            {"kind": "vllm", "model": "m"},
        ],
    }
    for expected, kinds in backends.items():
        for backend in kinds:
            made = Recaption(parse_config(RecaptionConfig, {"backend": backend}, "recaption"))
            assert made.computes_model is expected
