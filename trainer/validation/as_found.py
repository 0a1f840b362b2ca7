"""A block of evaluation after which training goes on as though it had not been."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def as_found(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode and no gradients inside; afterwards every module is in the mode it was in, and the random states
    of Python, numpy, torch and `device` are as they were.

    Compiled blocks run uncompiled inside: what they would be compiled to for other shapes may be what training runs
    from then on, and it may round otherwise.
    """
    modes = {part: part.training for part in module.modules()}
    python, numpy_state = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            module.eval()
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        random.setstate(python)
        np.random.set_state(numpy_state)
