"""Recaptioning by a real model behind a real OpenAI-compatible server on this machine: transformers serve, tiny and
random. It knows nothing of schemas, so that its replies are no JSON and are asked for again."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.recaption import Recaption, RecaptionConfig, WriteInstructions, WriteInstructionsConfig
from schemas.records import IMAGE_TYPE

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("fastapi", "uvicorn", "openai")), reason="needs transformers[serving]"
    ),
]

START_S = 120.0
PROCESSOR = '''
from transformers import Qwen2_5_VLProcessor
from transformers.processing_utils import ProcessorMixin


class ImageOnlyProcessor(Qwen2_5_VLProcessor):
    """The library's own insists on videos, which need torchvision."""

    @classmethod
    def get_attributes(cls):
        return ["image_processor", "tokenizer"]

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **unused):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
'''


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and model of a server that is up."""
    from unified_model.tiny import build_tiny

    folder = tmp_path_factory.mktemp("served")
    build_tiny(seed=0).save_pretrained(folder / "tiny")
    model = folder / "tiny" / "vlm"
    (model / "image_only.py").write_text(PROCESSOR)
    names = {"processor_class": "ImageOnlyProcessor", "auto_map": {"AutoProcessor": "image_only.ImageOnlyProcessor"}}
    (model / "processor_config.json").write_text(json.dumps(names))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {"HF_HOME": str(folder / "home"), "HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    script = shutil.which("transformers", path=str(Path(sys.executable).parent))
    assert script is not None
    options = ["--device", "cpu", "--trust-remote-code", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [script, "serve", str(model), *options],
            env={**os.environ, **home, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/health", server, folder / "log")
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            if httpx.get(address, timeout=5.0, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.RequestError:
            time.sleep(0.3)
    pytest.fail(f"the server did not come up: {log.read_text()[-2000:]}")


def picture(seed: int) -> dict[str, Any]:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    return {"bytes": stream.getvalue(), "path": "picture.png"}


def backend(served: tuple[str, str]) -> dict[str, Any]:
    url, model = served
    return {"kind": "openai", "url": url, "model": model, "check_model": False, "stored_name": "tiny/vlm"}


def test_a_served_model_is_asked_once_for_each_image(served: tuple[str, str], tmp_path: Path) -> None:
    images = [picture(seed) for seed in (0, 1, 0)]
    table = pa.table({"key": ["a" * 32, "b" * 32, "c" * 32], "image": pa.array(images, IMAGE_TYPE)})
    config = RecaptionConfig(backend=backend(served), prompt="caption_long.v1", cache=str(tmp_path))
    first, again = Recaption(config)(table), Recaption(config)(table)
    assert first.rejected.num_rows == 0 and again.kept.equals(first.kept)
    assert first.figures["requests"] == 2 and again.figures == {"replies_from_cache": 2}
    [used] = first.kept["model_tokens"][0].as_py()
    assert used["prompt_tokens"] > 20 and used["completion_tokens"] > 3
    assert all(len(row[0]["text"]) >= 20 for row in first.kept["captions"].to_pylist())


def test_its_noise_is_neither_json_nor_an_instruction(served: tuple[str, str]) -> None:
    table = pa.table({"key": ["a" * 32], "image": pa.array([picture(0)], IMAGE_TYPE)})
    result = Recaption(RecaptionConfig(backend=backend(served), max_repairs=2))(table)
    assert result.rejected["reason"].to_pylist() == ["caption_not_json"] and result.figures["requests"] == 3
    pair = {
        "key": ["a" * 32],
        "references": pa.array([[picture(0), picture(1)]], pa.list_(IMAGE_TYPE)),
        "target": pa.array([picture(2)], IMAGE_TYPE),
        "instruction": [""],
    }
    config = WriteInstructionsConfig(backend=backend(served), max_repairs=0)
    assert WriteInstructions(config)(pa.table(pair)).rejected["reason"].to_pylist() == ["instruction_not_json"]
