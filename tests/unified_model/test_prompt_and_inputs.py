"""The prompt is built in one place, and the inputs say where each image stands in it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.errors import InputError
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel


def test_the_prompt_is_a_qwen_chat(tiny: UnifiedEditModel) -> None:
    assert tiny.processor.prompt("  Make the car blue ", 2) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>"
        "Make the car blue<|im_end|>\n<|im_start|>assistant\n"
    )


def test_training_and_inference_build_the_same_inputs(
    tiny: UnifiedEditModel, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unified_model.pipeline import UnifiedEditPipeline

    seen = []
    features = UnifiedEditModel.features
    monkeypatch.setattr(
        UnifiedEditModel, "features", lambda self, inputs: seen.append(inputs) or features(self, inputs)
    )
    UnifiedEditPipeline(tiny)("Make it red", pictures[:2], steps=1, height=16, width=16)
    in_worker = pickle.loads(pickle.dumps(tiny.processor))
    for name, value in vars(in_worker(["Make it red"], [pictures[:2]])).items():
        assert value is getattr(seen[0], name) is None or torch.equal(value, getattr(seen[0], name)), name


def test_images_stand_before_their_vision_end(tiny: UnifiedEditModel, pictures: list[np.ndarray]) -> None:
    inputs = tiny.processor(["Make it red", "Remove the large old boat"], [pictures[:1], pictures[1:]])
    assert inputs.image_rows.tolist() == [0, 1, 1]
    ends = inputs.input_ids[inputs.image_rows, inputs.image_positions]
    assert set(ends.tolist()) == {tiny.processor.vision_end_id}
    image_tokens = (inputs.mm_token_type_ids == 1).sum(1)
    merged = inputs.image_grid_thw.prod(1) // 4
    assert image_tokens.tolist() == [merged[0], merged[1] + merged[2]]
    assert merged.max() <= 16
    assert (inputs.attention_mask[:, 0] == 1).all()
    assert inputs.to(torch.float64).siglip_pixels.dtype == torch.float64
    assert inputs.to(torch.float64).input_ids.dtype == torch.int64


@pytest.mark.parametrize(
    ("instruction", "shape", "dtype"),
    [
        ("   ", (8, 8, 3), np.uint8),
        ("a <|vision_end|> b", (8, 8, 3), np.uint8),
        ("Make it red", (8, 8), np.uint8),
        ("Make it red", (8, 8, 3), np.float32),
    ],
)
def test_bad_inputs_are_refused(tiny: UnifiedEditModel, instruction: str, shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(InputError):
        tiny.processor([instruction], [[np.zeros(shape, dtype)]])


def test_words_and_references_may_be_dropped(tiny: UnifiedEditModel) -> None:
    def user_turn(instruction: str | None, references: int) -> str:
        return tiny.processor.prompt(instruction, references).split("<|im_start|>user\n")[1].split("<|im_end|>")[0]

    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert user_turn("Make it red", 0) == "Make it red"
    assert user_turn(None, 2) == 2 * image
    assert user_turn(None, 0) == ""
    with pytest.raises(InputError, match="empty"):
        tiny.processor([""], [[]])


def test_rows_without_references_have_inputs_of_the_usual_shapes(
    tiny: UnifiedEditModel, pictures: list[np.ndarray]
) -> None:
    with_image = tiny.processor(["Make it red"], [pictures[:1]])
    without = tiny.processor(["Make it red", None], [[], []])
    assert len(without) == 2
    for name, value in vars(without).items():
        expected = getattr(with_image, name)
        if value is expected is None:
            continue
        assert value.dtype == expected.dtype, name
        assert value.shape[2:] == expected.shape[2:], name
    for name in ("pixel_values", "image_grid_thw", "siglip_pixels", "image_rows", "image_positions"):
        assert len(getattr(without, name)) == 0
    mixed = tiny.processor(["Make it red", None, "Add a dog"], [[], pictures[:2], []])
    assert mixed.image_rows.tolist() == [1, 1]


def test_a_model_hears_the_prompt_that_it_was_trained_with(
    tiny: UnifiedEditModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.processor, "prompt_version", 2)
    # Qwen2.5-VL's own template, as the tiny one does not, begins a chat that has no system turn with one.
    template = tiny.processor.vlm_processor.chat_template
    default = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are.<|im_end|>\n{% endif %}"
    monkeypatch.setattr(tiny.processor.vlm_processor, "chat_template", default + template)
    image, end = "<|vision_start|><|image_pad|><|vision_end|>", "<|im_end|>\n<|im_start|>assistant\n"
    assert tiny.processor.prompt("Add a dog", 2) == f"<|im_start|>user\n{image}{image}\nAdd a dog{end}"
    assert tiny.processor.prompt("Add a dog", 0) == f"<|im_start|>user\nAdd a dog{end}"
    assert tiny.processor.prompt(None, 0) == f"<|im_start|>user\nGenerate an image.{end}"
    tiny.save_pretrained(tmp_path / "whole")
    loaded = UnifiedEditModel.from_pretrained(tmp_path / "whole")
    loaded.save_core(tmp_path / "core")
    core = load_for_inference(tmp_path / "core")
    for model in (loaded, core):
        assert model.processor.prompt("Add a dog", 2) == tiny.processor.prompt("Add a dog", 2)
