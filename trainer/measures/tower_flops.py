"""FLOPs of what is frozen (forward only): Qwen2.5-VL, SigLIP, the VAE's encoder, and FLUX's text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from trainer.measures.work import linears


def language_flops(model: Any, tokens: int) -> float:
    """Qwen2.5-VL's language model over one prompt, without its head.

    Args:
        model: a `Qwen2_5_VLForConditionalGeneration`.
    """
    config = model.config.text_config
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    layers = model.model.language_model.layers
    return tokens * _linear(layers) + 4.0 * width * len(layers) * tokens**2


def vision_flops(model: Any, grid: tuple[int, int]) -> float:
    """Qwen2.5-VL's vision tower over one image, whose attention is within windows but for a few layers.

    Args:
        model: a `Qwen2_5_VLForConditionalGeneration`.
        grid: the image's patches in height and width.
    """
    visual, config = model.model.visual, model.config.vision_config
    patches = grid[0] * grid[1]
    full = len(config.fullatt_block_indexes)
    merge = config.spatial_merge_size
    side = config.window_size // config.patch_size // merge * merge
    in_windows = float(_squares(grid[0], side) * _squares(grid[1], side))
    attention = 4.0 * config.hidden_size * (full * patches**2 + (len(visual.blocks) - full) * in_windows)
    embedding = _convolution(visual.patch_embed.proj, 1)
    return patches * (embedding + _linear(visual.blocks)) + patches / merge**2 * _linear(visual.merger) + attention


def siglip_flops(model: Any) -> float:
    """A fixed-resolution SigLIP tower over one image, with its pooling head where it has one.

    Args:
        model: a `SiglipVisionModel`.
    """
    config = model.config
    tokens, width = (config.image_size // config.patch_size) ** 2, config.hidden_size
    layers = model.encoder.layers
    flops = tokens * (_convolution(model.embeddings.patch_embedding, 1) + _linear(layers))
    flops += 4.0 * width * len(layers) * tokens**2
    head = getattr(model, "head", None)
    if head is not None:
        # One learnt query attends to every token.
        flops += 2.0 * width * width * (1 + 2 * tokens) + 4.0 * width * tokens + _linear(head)
    return flops


def text_flops(clip: Any, t5: Any, t5_length: int) -> float:
    """FLUX's text encoders over one instruction.

    Args:
        clip: a `CLIPTextModel`, or None.
        t5: a `T5EncoderModel`, or None.
        t5_length: tokens that an instruction is padded to for T5.
    """
    flops = 0.0
    if clip is not None:
        tokens, config = clip.config.max_position_embeddings, clip.config
        flops += tokens * _linear(clip) + 4.0 * config.hidden_size * config.num_hidden_layers * tokens**2
    if t5 is not None:
        width = t5.config.num_heads * t5.config.d_kv
        flops += t5_length * _linear(t5) + 4.0 * width * t5.config.num_layers * t5_length**2
    return flops


def encoder_flops(vae: Any, height: int, width: int) -> float:
    """The encoder of an `AutoencoderKL` over one image of height x width pixels."""
    encoder = vae.encoder
    area = height * width
    flops = _convolution(encoder.conv_in, area)
    for block in encoder.down_blocks:
        flops += _convolutions(block.resnets, area)
        if block.downsamplers is not None:
            area //= 4
            flops += _convolutions(block.downsamplers, area)
    flops += _convolutions(encoder.mid_block, area) + _convolution(encoder.conv_out, area)
    for attention in encoder.mid_block.attentions:
        if attention is not None:
            flops += area * _linear(attention) + 4.0 * attention.to_q.out_features * area**2
    return flops + (_convolution(vae.quant_conv, area) if vae.quant_conv is not None else 0.0)


def _squares(length: int, side: int) -> int:
    """Sum of the squared lengths of the pieces of `side` into which `length` is cut; the last may be shorter."""
    whole, rest = divmod(length, side)
    return whole * side**2 + rest**2


def _linear(module: nn.Module) -> float:
    return sum(2.0 * layer.in_features * layer.out_features for layer in linears(module))


def _convolutions(module: nn.Module, outputs: int) -> float:
    return sum(_convolution(layer, outputs) for layer in module.modules() if isinstance(layer, nn.Conv2d))


def _convolution(layer: nn.Module, outputs: int) -> float:
    """FLOPs of a convolution with so many output positions."""
    weight: Sequence[int] = layer.weight.shape  # type: ignore[assignment]  # (out, in, kernel...)
    size = 1.0
    for extent in weight:
        size *= extent
    return 2.0 * size * outputs
