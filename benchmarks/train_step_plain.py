"""A training step of the same model written the obvious way: diffusers, transformers, autocast, AdamW, in one file.

What `benchmarks/train_step.py` holds the engine against. As diffusers' training scripts do it: what trains is kept in
float32 and computed under autocast, everything frozen lies in the run's dtype.
"""

from __future__ import annotations

import contextlib

import torch
from diffusers import FluxPipeline
from diffusers.training_utils import EMAModel
from torch.nn import functional

from trainer.config import TrainConfig
from unified_model.features import EditInputs
from unified_model.model import UnifiedEditModel


class PlainLoop:
    """Steps a model whose `requires_grad` is set.

    Args:
        model: on its device.
        config: of the run; only what a plain loop has is read.
    """

    def __init__(self, model: UnifiedEditModel, config: TrainConfig) -> None:
        self.model = model
        self.transformer = model.core.denoiser.transformer
        self.accumulation = config.gradient_accumulation
        self.trainable = [value for value in model.core.parameters() if value.requires_grad]
        for value in self.trainable:
            value.data = value.data.float()
        if config.engine.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.optimizer = torch.optim.AdamW(
            self.trainable, lr=config.optimizer.learning_rate, weight_decay=config.optimizer.weight_decay, fused=True
        )
        self.clip = config.optimizer.clip_norm
        self.average = EMAModel(self.trainable, decay=config.ema.decay) if config.averages else None
        device = model.device.type
        half = config.engine.dtype == "bfloat16"
        self.autocast = torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext()

    def step(
        self, inputs: EditInputs, pixels: torch.Tensor, noise: torch.Tensor, times: torch.Tensor, weights: torch.Tensor
    ) -> float:
        """One optimizer step over the same micro-batch `gradient_accumulation` times; the mean loss.

        Args:
            pixels: (B, 3, H, W) in -1..1.
            noise, times, weights: (B, C, h, w), (B,) and (B, 1, h, w).
        """
        total = 0.0
        for _ in range(self.accumulation):
            loss = self.loss(inputs, pixels, noise, times, weights) / self.accumulation
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.trainable, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.step(self.trainable)
        return total

    def loss(
        self, inputs: EditInputs, pixels: torch.Tensor, noise: torch.Tensor, times: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """The weighted flow-matching loss of a micro-batch in which each row has one reference."""
        vae, vlm, siglip = self.model.codec.vae, self.model.tower.vlm, self.model.tower.siglip
        with torch.no_grad():
            latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float()
            latents = (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
            states = vlm.model(
                input_ids=inputs.input_ids,
                attention_mask=inputs.attention_mask,
                mm_token_type_ids=inputs.mm_token_type_ids,
                pixel_values=inputs.pixel_values,
                image_grid_thw=inputs.image_grid_thw,
                use_cache=False,
            ).last_hidden_state
            seen = siglip(pixel_values=inputs.siglip_pixels.to(siglip.dtype)).last_hidden_state
        batch, channels, height, width = latents.shape
        device = latents.device
        noisy = (1.0 - times.view(-1, 1, 1, 1)) * latents + times.view(-1, 1, 1, 1) * noise
        place = int(inputs.image_positions[0])
        with self.autocast:
            text = self.model.core.conditioner.vlm_connector(states)
            image = self.model.core.conditioner.siglip_connector(seen)
            context = torch.cat((text[:, :place], image.to(text.dtype), text[:, place:]), dim=1)
            predicted = self.transformer(
                hidden_states=FluxPipeline._pack_latents(noisy, batch, channels, height, width).to(context.dtype),
                encoder_hidden_states=context,
                pooled_projections=self.model.core.conditioner.pooled.to(context.dtype).expand(batch, -1),
                timestep=times,
                img_ids=FluxPipeline._prepare_latent_image_ids(batch, height // 2, width // 2, device, torch.float32),
                txt_ids=torch.zeros(context.shape[1], 3, device=device),
                guidance=torch.ones(batch, device=device) if self.transformer.config.guidance_embeds else None,
                return_dict=False,
            )[0]
        target = FluxPipeline._pack_latents(noise - latents, batch, channels, height, width)
        # Packed, each token holds 2 x 2 cells of all channels: channel slowest, then row and column.
        cells = FluxPipeline._pack_latents(weights, batch, 1, height, width)
        errors = functional.mse_loss(predicted.float(), target, reduction="none")
        return (errors.view(*errors.shape[:2], channels, 4).mean(dim=2) * cells).mean()
