"""LPIPS of a region, from the published weights.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv:1801.03924), version 0.1
on AlexNet: features of five layers, each cell's normalised to length 1, their squared differences weighed by channel,
enlarged to the picture and added up. The weights are two files under their published names: AlexNet's, as torchvision
loads them, and the channels', which the package `lpips` holds.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import interpolate

from schemas.errors import InputError
from trainer.validation.copying import Mask, Picture

BACKBONE = "alexnet-owt-7be5be79.pth"
"""From https://download.pytorch.org/models/."""
CHANNELS = "alex.pth"
"""`lpips/weights/v0.1/alex.pth` of the package."""

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_ENDS = (1, 4, 7, 9, 11)
"""Places of the activations that are compared, in `features`."""
_SMALLEST = 32
"""Pixels of a side, below which AlexNet's last layers have nothing left."""


class Lpips(nn.Module):
    """The metric. Shape legend: H, W pixels."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        self.channels = nn.ParameterList(nn.Parameter(torch.zeros(1, n, 1, 1)) for n in (64, 192, 384, 256, 256))
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))

    @classmethod
    def load(cls, folder: str | Path) -> Lpips:
        """The metric with the weights in a folder that holds `BACKBONE` and `CHANNELS`.

        Raises:
            InputError: a file is missing, or holds other weights.
        """
        backbone, channels = (_weights(Path(folder) / name) for name in (BACKBONE, CHANNELS))
        metric = cls().eval().requires_grad_(False)
        state = {name: value for name, value in backbone.items() if name.startswith("features.")}
        state |= {
            f"channels.{place}": channels.get(f"lin{place}.model.1.weight", torch.empty(0))
            for place in range(len(_ENDS))
        }
        state |= {name: value for name, value in metric.state_dict().items() if name in ("shift", "scale")}
        try:
            metric.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                "validation.lpips", str(folder), f"holds other weights: {error}", "Get both again."
            ) from error
        return metric

    @torch.no_grad()
    def forward(self, one: Picture, other: Picture, mask: Mask) -> float | None:
        """The mean of the distance map over `mask`; None where it is empty, or the pictures are under 32 pixels.

        Args:
            one, other: (H, W, 3) uint8 RGB.
            mask: (H, W) bool.
        """
        if not mask.any() or min(mask.shape) < _SMALLEST:
            return None
        pictures = torch.stack([torch.from_numpy(picture.copy()) for picture in (one, other)])
        values = pictures.permute(0, 3, 1, 2).to(self.shift.device).float() / 127.5 - 1.0
        values = (values - self.shift) / self.scale
        total = torch.zeros(1, 1, *mask.shape, device=values.device)
        layers = iter(self.channels)
        for place, layer in enumerate(self.features):
            values = layer(values)
            if place in _ENDS:
                lengths = values.square().sum(dim=1, keepdim=True).sqrt()
                first, second = (values / (lengths + 1e-10)).split(1)
                apart = ((first - second).square() * next(layers)).sum(dim=1, keepdim=True)
                total += interpolate(apart, mask.shape, mode="bilinear", align_corners=False)
        return float(total[0, 0].cpu()[torch.from_numpy(mask)].double().mean())


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        mend = "Get it from where trainer/validation/lpips.py says, or leave validation.lpips out."
        raise InputError("validation.lpips", str(path), f"cannot be read ({error})", mend) from error
    return found
