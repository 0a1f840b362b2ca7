"""The tiny preset: a VLM folder that others can use by itself, and a VAE that a short fit makes usable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from unified_model.codec import LatentCodec
from unified_model.model import UnifiedEditModel
from unified_model.tiny_tokenizer import WORDS, build_tiny_tokenizer
from unified_model.tiny_vae import build_tiny_vae, fit_vae
from unified_model.vlm_processor import load_vlm_processor


def test_replies_are_words_and_end_by_themselves(tiny_folder: Path) -> None:
    vlm = Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_folder / "vlm")
    processor = load_vlm_processor(tiny_folder / "vlm")
    replies = set()
    for seed in range(4):
        image = np.random.default_rng(seed).integers(0, 256, (64 + 16 * seed, 80, 3), dtype=np.uint8)
        chat = [
            {"role": "system", "content": "You are a careful annotator."},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe it. " * (seed + 1)}]},
        ]
        prompt = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[prompt], images=[image], return_tensors="pt", return_mm_token_type_ids=True)
        tokens = vlm.generate(**inputs, max_new_tokens=128)[0, inputs["input_ids"].shape[1] :]
        assert tokens[-1] == vlm.generation_config.eos_token_id
        assert 12 <= len(tokens) <= 40
        reply = processor.tokenizer.decode(tokens, skip_special_tokens=True)
        assert set(reply.split()) <= set(WORDS)
        replies.add(reply)
    assert len(replies) > 1


def test_the_saved_processor_loads_through_the_auto_classes(tiny_folder: Path) -> None:
    for folder in ("vlm", "processor"):
        tokenizer = AutoTokenizer.from_pretrained(tiny_folder / folder)
        assert tokenizer.chat_template
        assert AutoImageProcessor.from_pretrained(tiny_folder / folder, backend="pil").merge_size == 2


def test_the_tokenizer_keeps_any_text_and_is_the_same_each_time() -> None:
    tokenizer = build_tiny_tokenizer()
    for text in ("Make the car blue", "Füge 雪 hinzu \U0001f980", "a  b\n\tc"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.get_vocab() == build_tiny_tokenizer().get_vocab()
    assert len(tokenizer(" the red boat")["input_ids"]) == 3


def test_a_fitted_vae_reconstructs_better_and_normalises(tiny: UnifiedEditModel) -> None:
    row = np.linspace(0, 255, 96)
    photograph = np.stack(np.broadcast_arrays(row[None], row[:, None], 255 - row[None]), axis=-1).astype(np.uint8)
    torch.manual_seed(0)
    vae = build_tiny_vae()
    error = fit_vae(vae, [photograph], steps=30, seed=0)
    pixels = torch.from_numpy(photograph).permute(2, 0, 1)[None].float() / 127.5 - 1
    fitted = LatentCodec(vae)

    def mean_error(codec: LatentCodec) -> float:
        return float((codec.decode(codec.encode(pixels)) - pixels).abs().mean())

    assert error < 0.5
    assert mean_error(fitted) < 0.8 * mean_error(tiny.codec)
    assert 0.5 < float(fitted.encode(pixels).std()) < 2.0
