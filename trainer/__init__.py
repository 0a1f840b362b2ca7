"""Shards in, an edited-region-weighted flow-matching model out: loader, loss, DeepSpeed engine, EMA, checkpoints."""

import logging

# Where it is installed, diffusers imports it, and on a CPU it warns on every rank of kernels that nobody asked for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
