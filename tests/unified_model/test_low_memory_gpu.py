"""What only a GPU can show of parts that take turns and of quantised weights; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unified_model.pipeline import UnifiedEditPipeline
from unified_model.placement import Offload
from unified_model.quantisation import Bits, is_quantised

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

PICTURE = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(64, 48, 3)


def edited(pipeline: UnifiedEditPipeline) -> np.ndarray:
    return pipeline("make it red", [PICTURE], height=64, width=64, steps=3, text_guidance=2.0)


@pytest.mark.parametrize("offload", ["parts", "blocks"])
def test_offloaded_parts_make_the_same_image_and_leave_the_gpu(tiny_folder: Path, offload: Offload) -> None:
    plain = UnifiedEditPipeline.from_pretrained(tiny_folder, dtype=torch.bfloat16, device="cuda")
    there = edited(plain)
    pipeline = UnifiedEditPipeline.from_pretrained(tiny_folder, dtype=torch.bfloat16, device="cuda", offload=offload)
    assert np.abs(edited(pipeline).astype(int) - there).max() <= 1
    assert {value.device.type for value in pipeline.model.parameters()} == {"cpu"}


@pytest.mark.parametrize("offload", ["none", "parts"])
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantised_dit_stays_and_edits(tiny_folder: Path, bits: Bits, offload: Offload) -> None:
    pytest.importorskip("bitsandbytes")
    pipeline = UnifiedEditPipeline.from_pretrained(
        tiny_folder,
        dtype=torch.bfloat16,
        device="cuda",
        quantise_vlm=bits,
        quantise_transformer=bits,
        offload=offload,
    )
    transformer = pipeline.model.core.denoiser.transformer
    assert is_quantised(transformer) and is_quantised(pipeline.model.tower.vlm)
    image = edited(pipeline)
    assert transformer.transformer_blocks[0].attn.to_q.weight.dtype in (torch.int8, torch.uint8)
    assert transformer.x_embedder.weight.dtype == torch.bfloat16
    assert {value.device.type for value in transformer.parameters()} == {"cuda"}
    plain = edited(UnifiedEditPipeline.from_pretrained(tiny_folder, dtype=torch.bfloat16, device="cuda"))
    assert 0 < np.abs(image.astype(int) - plain).mean() < 30
