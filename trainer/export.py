"""The end of a run: raw and averaged weights in the Hugging Face layout, ready for `editmill edit --checkpoint`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from schemas.atomic import sync_folder
from trainer.checkpoints.ema import ShardedEma
from trainer.distributed import Ranks
from unified_model.model import UnifiedEditModel

EXPORT = "export"


@torch.no_grad()
def export(
    run: Path, model: UnifiedEditModel, ema: ShardedEma | None, ranks: Ranks, *, adapter_only: bool = False
) -> Path:
    """Write `export/raw` and, with a moving average, `export/ema`, each the core with a card that names the base model.
    A collective.

    Args:
        adapter_only: of a core with adapters write these alone; else they are folded into the weights.

    `export/` appears once all of it is whole. Without ZeRO-3 the first rank's core holds the averaged weights
    afterwards: call it last.

    Returns:
        The folder `export/`.
    """
    save = model.save_adapter if adapter_only else model.save_core
    final, aside = run / EXPORT, run / f".{EXPORT}.partial"
    trainable = {name: value for name, value in model.core.named_parameters() if value.requires_grad}
    with whole_on_first(model.core, ranks):
        if ranks.is_first:
            shutil.rmtree(aside, ignore_errors=True)
            save(aside / "raw")
        if ema is not None:
            for name, value in ema.gather():
                if ranks.is_first:
                    trainable[name].copy_(value)
            if ranks.is_first:
                save(aside / "ema")
    if ranks.is_first:
        shutil.rmtree(final, ignore_errors=True)
        aside.replace(final)
        sync_folder(run)
    ranks.barrier()
    return final


@contextmanager
def whole_on_first(module: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Inside, every parameter is whole on the first rank, also under ZeRO-3: then in the machine's memory, brought
    there one by one, so that no device has to hold all of them; any change to them is dropped at the end. A
    collective."""
    cut = [parameter for parameter in module.parameters() if hasattr(parameter, "ds_tensor")]
    if not cut:
        yield
        return
    from deepspeed import zero

    held = []
    for parameter in cut:
        with zero.GatheredParameters([parameter], modifier_rank=None):
            whole = parameter.data.to("cpu", copy=True) if ranks.is_first else None
        if whole is not None:
            held.append((parameter, parameter.data))
            parameter.data = whole
    try:
        yield
    finally:
        for parameter, before in held:
            parameter.data = before
