"""The heads that turn a CLIP embedding into a score: stacks of linear layers without anything between them.

LAION-Aesthetics V1 (`sa_0_4_vit_l_14_linear`) is one layer 768 -> 1 with the keys `weight` and `bias`. The improved
predictor (`sac+logos+ava1-l14-linearMSE`) has the layers 768 -> 1024 -> 128 -> 64 -> 16 -> 1 under `layers.N`, with
dropout between them in training only. Both take the embedding at length one.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigError, InputError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
_MEND = "Use one of LAION's heads, or one of the same form: linear layers 'N.weight' and 'N.bias' down to one output."


@dataclass(frozen=True)
class Head:
    """Linear layers, applied in order.

    Args:
        layers: (weight (out, in), bias (out,)) float32 each; the last has one output.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    @property
    def width(self) -> int:
        """Length of the embedding it takes."""
        return int(self.layers[0][0].shape[1])

    def to(self, device: str) -> Head:
        """The head on a torch device."""
        return Head(tuple((weight.to(device), bias.to(device)) for weight, bias in self.layers))

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(B,) float32 scores of (B, width) embeddings, which are brought to length one here."""
        import torch

        values = torch.nn.functional.normalize(embeddings.float(), dim=-1)
        for weight, bias in self.layers:
            values = torch.nn.functional.linear(values, weight, bias)
        return values.squeeze(-1)


def head_file(head: str) -> Path:
    """The file that `AestheticConfig.head` means; one on the hub is fetched if it is not in the cache.

    Raises:
        InputError: there is none, or more than one.
    """
    path = Path(head)
    if path.is_file():
        return path
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if len(found) != 1:
            names = [file.name for file in found]
            raise InputError("aesthetic.head", head, f"must hold one file of weights, not {names}", "Name the file.")
        return found[0]
    if not is_on_hub(head):
        raise InputError("aesthetic.head", head, "does not exist", "Name a file, a folder, or OWNER/NAME/FILE.")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    owner, name, file = head.split("/", 2)
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            "aesthetic.head", head, f"cannot be fetched ({error})", "Check the name, and the net."
        ) from error


def is_on_hub(head: str) -> bool:
    """Whether `head` has the form OWNER/NAME/FILE and is nothing on this machine."""
    return (
        not Path(head).exists()
        and re.fullmatch(r"[\w.-]+/[\w.-]+/[^/].*", head) is not None
        and head.endswith(SUFFIXES)
    )


def read_head(path: Path) -> Head:
    """The head in a file of weights.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it holds something else than linear layers that follow on each other and end in one output.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                state = load_file(path)
            except SafetensorError as error:
                raise ValueError(str(error)) from error
        else:
            # Weights only: a pickle may run anything.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError("aesthetic.head", str(path), f"cannot be read ({error})", "Fetch the file again.") from error
    return Head(_layers(state, path))


def _layers(state: Any, path: Path) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    if not isinstance(state, Mapping) or not state:
        raise ConfigError("aesthetic.head", str(path), "holds no state dict", _MEND)
    stems = {name.rpartition(".")[0] for name in state}
    wanted = {f"{stem}.{part}".removeprefix(".") for stem in stems for part in ("weight", "bias")}
    if wanted != set(state):
        raise ConfigError("aesthetic.head", sorted(state), "holds more or less than linear layers", _MEND)
    layers: list[tuple[torch.Tensor, torch.Tensor]] = []
    for stem in sorted(stems, key=_order):
        weight, bias = (state[f"{stem}.{part}".removeprefix(".")].float() for part in ("weight", "bias"))
        fits = (
            weight.ndim == 2
            and bias.shape == weight.shape[:1]
            and (not layers or weight.shape[1] == len(layers[-1][1]))
        )
        if not fits:
            shapes = {name: tuple(value.shape) for name, value in state.items()}
            raise ConfigError("aesthetic.head", shapes, "layers do not follow on each other", _MEND)
        layers.append((weight, bias))
    if len(layers[-1][1]) != 1:
        raise ConfigError("aesthetic.head", f"{len(layers[-1][1])} outputs", "must have one output", _MEND)
    return tuple(layers)


def _order(stem: str) -> tuple[int, str]:
    number = stem.rpartition(".")[2]
    return (int(number) if number.isdecimal() else 0, stem)
