"""CLIP and T5 as optional parts, held against the library's own FLUX pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from flux_layout import write_flux
from transformers import CLIPTextConfig, CLIPTextModel

from schemas.atomic import sha256_of
from schemas.errors import ConfigError
from unified_model.config import UnifiedModelConfig
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline

INSTRUCTIONS = ["make it red", "remove the large old boat from the lake in the morning", None]
LENGTH = 24


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("flux") / "FLUX.1-dev")


def components(tiny_folder: Path, flux: Path, **changes: object) -> UnifiedModelConfig:
    values = {
        "vlm": str(tiny_folder / "vlm"),
        "siglip": str(tiny_folder / "siglip"),
        "transformer": str(flux / "transformer"),
        "vae": str(flux / "vae"),
        "scheduler": str(flux / "scheduler"),
        "clip": str(flux / "text_encoder"),
        "clip_tokenizer": str(flux / "tokenizer"),
        "t5": str(flux / "text_encoder_2"),
        "t5_tokenizer": str(flux / "tokenizer_2"),
        "t5_length": LENGTH,
    }
    return UnifiedModelConfig.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def both(tiny_folder: Path, flux: Path) -> UnifiedEditModel:
    return UnifiedEditModel.from_components(components(tiny_folder, flux))


def test_they_encode_as_the_published_pipeline_does(both: UnifiedEditModel, flux: Path) -> None:
    features = both.features(both.processor(INSTRUCTIONS, [[]] * 3))
    published = FluxPipeline(
        scheduler=both.scheduler,
        vae=both.codec.vae,
        text_encoder=both.text.clip,
        tokenizer=both.processor.text.clip,
        text_encoder_2=both.text.t5,
        tokenizer_2=both.processor.text.t5,
        transformer=both.core.denoiser.transformer,
    )
    texts = [text or "" for text in INSTRUCTIONS]
    with torch.no_grad():
        tokens, pooled, _ = published.encode_prompt(texts, None, max_sequence_length=LENGTH)
    assert torch.equal(features.t5_tokens, tokens)
    assert torch.equal(features.pooled, pooled)


def test_a_padded_row_equals_the_row_alone(both: UnifiedEditModel, pictures: list[np.ndarray]) -> None:
    references = [pictures[:1], [], pictures[1:]]
    latents, times = torch.randn(3, 16, 4, 4), torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        together = both.core(latents, times, both.features(both.processor(INSTRUCTIONS, references)))
        for row in range(3):
            one = slice(row, row + 1)
            alone = both.core(
                latents[one], times[one], both.features(both.processor(INSTRUCTIONS[one], references[one]))
            )
            torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=0)


def test_each_of_them_changes_the_output_and_none_is_there_by_default(tiny_folder: Path, flux: Path) -> None:
    def velocity(**changes: object) -> torch.Tensor:
        model = UnifiedEditModel.from_components(components(tiny_folder, flux, **changes))
        features = model.features(model.processor(["make it red"], [[]]))
        with torch.no_grad():
            return model.core(torch.ones(1, 16, 4, 4), torch.tensor([0.5]), features)

    outputs = [velocity(), velocity(t5=None), velocity(clip=None), velocity(t5=None, clip=None)]
    for number, output in enumerate(outputs):
        assert not any(torch.equal(output, other) for other in outputs[:number])
    config = UnifiedModelConfig(vlm="a/b", siglip="a/b", transformer="a/b", vae="a/b")
    assert config.clip is config.t5 is None


def test_they_are_saved_loaded_and_frozen(both: UnifiedEditModel, tmp_path: Path) -> None:
    assert not any(parameter.requires_grad for parameter in both.text.parameters())
    both.processor(["make it red"], [[]])
    both.save_pretrained(tmp_path / "whole")
    loaded = UnifiedEditModel.from_pretrained(tmp_path / "whole")
    loaded.save_pretrained(tmp_path / "again")
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    assert {path.parts[0] for path in files} > {"clip", "t5"}
    assert all(sha256_of(tmp_path / "whole" / path) == sha256_of(tmp_path / "again" / path) for path in files)
    loaded.save_core(tmp_path / "core")
    edits = [
        UnifiedEditPipeline(model)("make it red", [], steps=1, height=16, width=16).astype(int)
        for model in (both, load_for_inference(tmp_path / "core"))
    ]
    assert np.abs(edits[0] - edits[1]).max() <= 1


def test_one_of_another_width_is_refused(tiny_folder: Path, flux: Path, tmp_path: Path) -> None:
    CLIPTextModel(CLIPTextConfig(vocab_size=54, hidden_size=48, num_attention_heads=2)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="32 wide"):
        UnifiedEditModel.from_components(components(tiny_folder, flux, clip=str(tmp_path)))
