"""Which rows lose instruction or references, for classifier-free guidance (Ho and Salimans, arXiv:2207.12598; with two
conditions: Brooks et al., "InstructPix2Pix", arXiv:2211.09800, 3.2.1). Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from trainer.config.data import DropConfig


@dataclass(frozen=True)
class Dropped:
    """What a row loses."""

    text: bool
    image: bool


def dropped_at(seed: int, position: int, drop: DropConfig) -> Dropped:
    """What the row at a position of the run loses; another position's draw is independent of it."""
    digest = hashlib.blake2b(f"{seed}/{position}/drop".encode(), digest_size=8).digest()
    draw = int.from_bytes(digest, "big") / 2**64
    text, image = drop.text, drop.text + drop.image
    both = image + drop.both
    return Dropped(text=draw < text or image <= draw < both, image=text <= draw < both)
