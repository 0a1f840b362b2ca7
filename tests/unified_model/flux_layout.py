"""Small components of the real classes, in the layout in which FLUX.1 is published."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from unified_model.tiny import CONTEXT_WIDTH, POOLED_WIDTH, build_tiny_flux
from unified_model.tiny_vae import build_tiny_vae

LETTERS = string.ascii_lowercase


def clip_tokenizer() -> CLIPTokenizer:
    """Every letter is a token."""
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def t5_tokenizer() -> T5Tokenizer:
    """Every letter is a token."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((letter, -3.0) for letter in LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def write_flux(folder: Path, guidance_embeds: bool = True, shifting: bool = True, seed: int = 0) -> Path:
    """A folder like FLUX.1-dev's, or, without guidance embedding and dynamic shifting, FLUX.1-schnell's."""
    torch.manual_seed(seed)
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=2 * len(LETTERS) + 2,
            hidden_size=POOLED_WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=2 * len(LETTERS),
            eos_token_id=2 * len(LETTERS) + 1,
        )
    )
    t5 = T5EncoderModel(
        T5Config(vocab_size=4 + len(LETTERS), d_model=CONTEXT_WIDTH, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    )
    shift = {"shift": 3.0, "use_dynamic_shifting": True} if shifting else {"shift": 1.0}
    for name, part in {
        "transformer": build_tiny_flux(guidance_embeds),
        "vae": build_tiny_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(**shift),
        "text_encoder": clip,
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5,
        "tokenizer_2": t5_tokenizer(),
    }.items():
        part.save_pretrained(folder / name)
    return folder
