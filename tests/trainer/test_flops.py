"""FLOPs from shapes agree with torch's counter, for every mixture of frozen and trained layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trainer.measures.flops import Row, StepFlops
from trainer.measures.flux_flops import flux_work
from trainer.optimization.kernels import recompute_blocks
from trainer.stages import STAGES, open_modules
from unified_model.conditioners import MlpConditioner, Widths
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.features import Conditioning
from unified_model.skeleton import release_skeleton, skeleton_of_model
from unified_model.tiny import build_tiny, build_tiny_flux

FLUX = "denoiser.transformer"
PATTERNS = {
    "align": STAGES["align"].patterns,
    "edit": STAGES["edit"].patterns,
    "everything": (FLUX, "conditioner.vlm_connector", "conditioner.siglip_connector"),
    "one query": (f"{FLUX}.transformer_blocks.0.attn.to_q",),
    "a norm in the middle": (f"{FLUX}.single_transformer_blocks.0.attn.norm_q",),
    "context modulation": (f"{FLUX}.transformer_blocks.*.norm1_context.linear",),
    "the last block": (f"{FLUX}.single_transformer_blocks.1.proj_out",),
    "the output": (f"{FLUX}.proj_out",),
    "the time": (f"{FLUX}.time_text_embed",),
}


def counted(core: EditCore, rows: int, image_side: int, context: int) -> tuple[float, float]:
    """FLOPs forward, and forward and backward, by torch's counter, on the meta device."""
    denoiser = core.denoiser
    dtype = denoiser.transformer.x_embedder.weight.dtype
    trains = any(parameter.requires_grad for parameter in core.conditioner.parameters())
    with torch.device("meta"):
        latents, times = torch.empty(rows, 16, image_side, image_side), torch.empty(rows)
        tokens = torch.empty(rows, context, denoiser.context_width, dtype=dtype, requires_grad=trains)
        pooled = torch.empty(rows, denoiser.pooled_width, dtype=dtype)
    with FlopCounterMode(display=False) as counter:
        velocity = denoiser(latents, times, Conditioning(tokens, None, pooled))
        forward = counter.get_total_flops()
        velocity.square().mean().backward()
    return forward, counter.get_total_flops()


@pytest.mark.parametrize("every", [0, 1, 2])
@pytest.mark.parametrize("name", PATTERNS)
def test_the_dit_forward_and_backward_whatever_is_frozen(name: str, every: int) -> None:
    with torch.device("meta"):
        core = EditCore(MlpConditioner.fresh(Widths(64, 48, 64, 32)), FluxDenoiser(build_tiny_flux(True))).train()
    open_modules(core, PATTERNS[name])
    recompute_blocks(core.denoiser.transformer, every)
    forward, total = counted(core, rows=3, image_side=16, context=50)
    work = flux_work(core.denoiser.transformer, name in ("align", "edit", "everything"), every)(64, 50) * 3
    assert work.forward == forward
    assert work.hardware == total
    # Of four blocks every second one leaves out the last.
    nothing = ("the output", "the last block") if every == 2 else ("the output",)
    assert (work.recompute > 0) == (every > 0 and name not in nothing)


@pytest.mark.slow
def test_the_dit_at_release_size() -> None:
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True)
        core = EditCore(MlpConditioner.fresh(Widths(3584, 1152, 4096, 768)), FluxDenoiser(transformer))
    open_modules(core, STAGES["edit"].patterns)
    forward, total = counted(core, rows=1, image_side=64, context=1330)
    work = flux_work(transformer, context_grad=True)
    sample = work(1024, 1330)
    assert sample.forward == forward and sample.hardware == total
    linear = (sample.forward - 4.0 * 57 * 3072 * 2354**2) / 2354
    assert linear == pytest.approx(12.91e9, rel=2e-3)
    # Of what is trained with a backward pass: towers, VAE and connectors come on top, 86.9e12 in all.
    assert sample.model == pytest.approx(79.0e12, rel=2e-3)


@pytest.mark.parametrize("size", [(64, 64), (96, 112), (60, 300)])
def test_towers_conditioner_and_whole_core_of_the_tiny_model(size: tuple[int, int]) -> None:
    model = build_tiny()
    open_modules(model.core, STAGES["edit"].patterns)
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    inputs = model.processor(["paint it red"], [[image, image]])
    _, high, wide = inputs.image_grid_thw[0].tolist()
    flops = StepFlops(skeleton_of_model(model))
    row = Row(64, 96, inputs.input_ids.shape[1], ((high, wide), (high, wide)))
    parts = flops.sample(row)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            features = model.features(inputs)
        assert parts.vlm.forward + parts.siglip.forward == counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            latents = model.codec.encode(torch.zeros(1, 3, 64, 96))
        assert parts.vae.forward == counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            model.core(latents, torch.zeros(1), features).square().mean().backward()
        assert (parts.conditioner + parts.denoiser).model == counter.get_total_flops()


def test_the_release_as_a_whole() -> None:
    model = release_skeleton()
    open_modules(model.core, STAGES["edit"].patterns)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.codec.vae.encode(torch.empty(1, 3, 512, 512, device="meta"))
    flops = StepFlops(model)
    # One reference of 448 x 448 pixels for the VLM, an instruction of 24 tokens, and a template of 26.
    row = Row(512, 512, 306, ((32, 32),))
    sample = flops.sample(row)
    assert flops.tokens(row) == 2354
    assert sample.vae.forward == counter.get_total_flops()
    assert sample.total.model == pytest.approx(86.9e12, rel=5e-3)


def test_padding_and_recomputation_are_the_devices_work_not_the_models() -> None:
    model = build_tiny()
    open_modules(model.core, STAGES["edit"].patterns)
    plain, again = (
        StepFlops(skeleton_of_model(model)),
        StepFlops(skeleton_of_model(model), recompute_every=1),
    )
    short, long = Row(64, 64, 20, ((4, 4),)), Row(64, 64, 40, ((4, 4), (4, 4)))
    assert plain.hardware_flops([short, short]) == plain.model_flops([short, short])
    assert plain.hardware_flops([short, long]) > plain.model_flops([short, long])
    assert again.hardware_flops([short]) > plain.hardware_flops([short])
    assert again.model_flops([short]) == plain.model_flops([short])
    assert plain.tokens(long) == 16 + 40 + 2 * 16
    assert plain.image_tokens(Row(64, 64, 20, (), reference_latents=((64, 32),))) == 16 + 8
