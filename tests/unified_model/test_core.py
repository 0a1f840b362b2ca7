"""Shapes, order and masking from features to velocity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

from schemas.errors import ConfigError
from unified_model.conditioners.merge import merge_tokens
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser, latent_ids, pack_latents, unpack_latents
from unified_model.features import EditInputs
from unified_model.model import UnifiedEditModel
from unified_model.tiny import build_tiny_flux

INSTRUCTIONS = ["Make it red", "Remove the large old boat from the lake in the morning", "Add a dog"]


@pytest.fixture(scope="module")
def rows(tiny: UnifiedEditModel) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(3)
    sizes = [[(64, 64)], [(64, 64), (50, 130)], [(112, 112), (30, 30), (64, 96)]]
    return [[generator.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in row] for row in sizes]


def test_a_padded_row_equals_the_row_alone(tiny: UnifiedEditModel, rows: list[list[np.ndarray]]) -> None:
    """Rows with one, two and three references, with words only, with references only, and with neither."""
    instructions = [*INSTRUCTIONS, "A large old boat on the lake in the morning", None, None]
    rows = [*rows, [], rows[0], []]
    latents = torch.randn(6, 16, 6, 10, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.1, 0.5, 1.0, 0.7, 0.3, 0.9])
    with torch.no_grad():
        together = tiny.core(latents, times, tiny.features(tiny.processor(instructions, rows)))
        assert together.shape == latents.shape
        for row in range(6):
            features = tiny.features(tiny.processor(instructions[row : row + 1], rows[row : row + 1]))
            assert tiny.core.conditioner(features).mask is None
            alone = tiny.core(latents[row : row + 1], times[row : row + 1], features)
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


def test_without_references_every_parameter_still_has_a_gradient(tiny: UnifiedEditModel) -> None:
    """Ranks exchange gradients: none may be missing where another rank has one."""
    features = tiny.features(tiny.processor(["A red boat", None], [[], []]))
    tiny.core.zero_grad()
    tiny.core(torch.randn(2, 16, 4, 4), torch.full((2,), 0.5), features).square().mean().backward()
    assert [name for name, parameter in tiny.core.named_parameters() if parameter.grad is None] == []
    tiny.core.zero_grad()


def test_the_output_depends_on_every_reference_and_on_the_words(
    tiny: UnifiedEditModel, rows: list[list[np.ndarray]]
) -> None:
    def velocity(inputs: EditInputs) -> torch.Tensor:
        return tiny.core(torch.ones(1, 16, 4, 4), torch.tensor([0.5]), tiny.features(inputs))

    references = rows[2]
    with torch.no_grad():
        first = velocity(tiny.processor(["Make it red"], [references]))
        assert not torch.equal(first, velocity(tiny.processor(["Make it blue"], [references])))
        for position in range(3):
            changed = [255 - image if place == position else image for place, image in enumerate(references)]
            assert not torch.equal(first, velocity(tiny.processor(["Make it red"], [changed])))


def test_merge_places_images_and_drops_padding() -> None:
    text = torch.arange(1.0, 13.0).view(2, 6, 1)  # row 0: 1..6, row 1: 7..12
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    images = torch.tensor([[100.0, 101.0], [200.0, 201.0], [300.0, 301.0]])[..., None]
    merged, merged_mask = merge_tokens(text, mask, images, torch.tensor([0, 0, 1]), torch.tensor([1, 4, 2]))
    assert merged_mask is not None
    assert merged[0, :, 0].tolist() == [1, 100, 101, 2, 3, 4, 200, 201, 5, 6]
    assert merged[1, :, 0].tolist() == [7, 8, 300, 301, 9, 0, 0, 0, 0, 0]
    assert merged_mask.sum(1).tolist() == [10, 5]
    left_padded = torch.tensor([[0, 0, 1, 1, 1, 1]], dtype=torch.bool)
    merged, merged_mask = merge_tokens(text[:1], left_padded, images[:1], torch.tensor([0]), torch.tensor([3]))
    assert merged_mask is None
    assert merged[0, :, 0].tolist() == [3, 100, 101, 4, 5, 6]


def test_gradients_reach_both_connectors_and_the_transformer_only(
    tiny: UnifiedEditModel, rows: list[list[np.ndarray]]
) -> None:
    features = tiny.features(tiny.processor(INSTRUCTIONS, rows))
    assert not any(value.requires_grad for value in vars(features).values() if value is not None)
    core: EditCore = tiny.core
    core.zero_grad()
    core(torch.randn(3, 16, 4, 4), torch.full((3,), 0.5), features).square().mean().backward()
    without = [name for name, parameter in core.named_parameters() if parameter.grad is None]
    assert without == []
    core.zero_grad()
    assert not any(parameter.requires_grad for parameter in tiny.tower.parameters())
    assert not any(parameter.requires_grad for parameter in tiny.codec.parameters())
    assert not tiny.train().tower.vlm.training
    tiny.eval()


def test_latents_are_packed_in_the_order_of_diffusers() -> None:
    latents = torch.randn(2, 16, 6, 4)
    packed = pack_latents(latents)
    assert torch.equal(packed, FluxPipeline._pack_latents(latents, 2, 16, 6, 4))
    assert torch.equal(unpack_latents(packed, 16, 6, 4), latents)
    expected = FluxPipeline._prepare_latent_image_ids(2, 3, 2, torch.device("cpu"), torch.float32)
    assert torch.equal(latent_ids(3, 2, torch.device("cpu")), expected)
    with pytest.raises(ConfigError, match="even"):
        pack_latents(torch.zeros(1, 16, 5, 4))


def test_guidance_matters_only_where_it_is_embedded(tiny: UnifiedEditModel, rows: list[list[np.ndarray]]) -> None:
    conditioning = tiny.core.conditioner(tiny.features(tiny.processor(INSTRUCTIONS[:1], rows[:1])))
    torch.manual_seed(0)
    embedding = FluxDenoiser(build_tiny_flux(guidance_embeds=True))
    latents, times = torch.randn(1, 16, 4, 4), torch.tensor([0.5])
    with torch.no_grad():
        plain = [tiny.core.denoiser(latents, times, conditioning, scale) for scale in (None, 3.5)]
        guided = [embedding(latents, times, conditioning, scale) for scale in (None, 1.0, 3.5)]
    assert torch.equal(*plain)
    assert torch.equal(guided[0], guided[1])
    assert not torch.equal(guided[1], guided[2])


def test_the_codec_normalises_and_samples_by_the_generator(tiny: UnifiedEditModel) -> None:
    codec = tiny.codec
    assert (codec.stride, codec.channels, tiny.size_multiple) == (8, 16, 16)
    pixels = torch.rand(2, 3, 48, 64) * 2 - 1
    codec.vae.register_to_config(shift_factor=0.5, scaling_factor=2.0)
    mode = codec.encode(pixels)
    assert mode.shape == (2, 16, 6, 8)
    torch.testing.assert_close(mode, (codec.vae.encode(pixels).latent_dist.mode() - 0.5) * 2)
    torch.testing.assert_close(codec.decode(mode), codec.vae.decode(mode / 2 + 0.5).sample)
    codec.vae.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    assert codec.decode(mode).shape == pixels.shape
    draws = [codec.encode(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
