"""What the model libraries say of themselves, kept off the terminal."""

from __future__ import annotations

import os

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


def quiet_libraries() -> None:
    """No progress bars of the libraries' own, and no word of DeepSpeed's that there is no GPU."""
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    # Looked at whenever deepspeed is imported, as accelerate does.
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
