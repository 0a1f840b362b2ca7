"""Connectors that were trained elsewhere, put into a conditioner of ours: the release's `denoise_projector` of stage 1,
its `flux-redux-siglipv2-512.bin`, or the image embedder of FLUX.1-Redux."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from schemas.errors import ConfigError
from unified_model.conditioners import Conditioner, MlpConditioner
from unified_model.release.download import weights_place
from unified_model.release.keys import map_keys, refuse
from unified_model.release.weights import open_weights


@torch.no_grad()
def load_connectors(conditioner: Conditioner, sources: Sequence[str]) -> list[str]:
    """Copy connectors into `conditioner`, in place; its dtype stays.

    Args:
        sources: files, folders or files under hub names; each must hold at least one whole connector, and nothing else.

    Returns:
        the connectors that were filled.

    Raises:
        ConfigError: `conditioner` is not the one that the release has.
        InputError: keys that do not map or belong to no connector, half a connector, or another shape; all are listed.
    """
    if sources and not isinstance(conditioner, MlpConditioner):
        raise ConfigError(
            "connector weights", list(sources), "belong to the conditioner 'mlp'", "Leave them out, or take that one."
        )
    filled: set[str] = set()
    for source in sources:
        weights = open_weights(weights_place(source))
        mapped = map_keys(weights.shapes, source)
        refuse([*mapped.parts["vlm"].values(), *mapped.parts["transformer"].values()], source, "belong to no connector")
        held = mapped.parts["conditioner"]
        connectors = {name.partition(".")[0] for name in held}
        needed = {name: value for name, value in conditioner.state_dict().items() if name.split(".")[0] in connectors}
        refuse(sorted(needed.keys() - held.keys()), source, "are missing (named as in our model)")
        refuse(
            [
                f"{old} {weights.shapes[old]}, needed {tuple(needed[name].shape)}"
                for name, old in held.items()
                if weights.shapes[old] != tuple(needed[name].shape)
            ],
            source,
            "have another shape than the conditioner",
        )
        back = {old: name for name, old in held.items()}
        for old, value in weights.read(back):
            needed[back[old]].copy_(value)
        filled |= connectors
    return sorted(filled)
