"""Region weighting: w(x) by name, with x = A_total / A_edit, and the weight map on the latent grid.

Lin et al., "UniWorld-V1" (arXiv:2506.03147), section on mask-weighted training: the paper names linear, exponential
root, logarithmic and quadratic root, and chooses the logarithmic. Every function has w(1) = 1, w >= 1 and grows with x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigError

WeightFunction = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Weighting:
    """A weighting function under its name.

    Args:
        name: what a config says.
        formula: w(x), for reports.
        function: x -> w(x), elementwise on float64, x >= 1.
        requires_cap: the function grows so fast that a cap must be stated.
    """

    name: str
    formula: str
    function: WeightFunction
    requires_cap: bool = False


WEIGHTINGS: dict[str, Weighting] = {
    weighting.name: weighting
    for weighting in (
        Weighting("uniform", "1", np.ones_like),
        Weighting("linear", "x", lambda x: x),
        # Some prints of the paper garble this as 2*sqrt(x-1), for which w(1) = 0; the released code computes this one.
        Weighting("exponential_root", "2^(sqrt(x)-1)", lambda x: np.exp2(np.sqrt(x) - 1.0), requires_cap=True),
        Weighting("logarithmic", "log2(x)+1", lambda x: np.log2(x) + 1.0),
        Weighting("quadratic_root", "(sqrt(x)-1)^2+1", lambda x: np.square(np.sqrt(x) - 1.0) + 1.0),
    )
}
"""Every weighting by name. To add one, add a line here and its exact values to the test."""


def check_weighting(name: str, cap: float | None) -> Weighting:
    """The weighting called `name`, once it is clear that `cap` fits it.

    Raises:
        ConfigError: no such name; a required cap is missing; the cap is under 1.
    """
    if name not in WEIGHTINGS:
        raise ConfigError("weighting", name, f"must be one of {', '.join(WEIGHTINGS)}", "Correct the name.")
    weighting = WEIGHTINGS[name]
    if cap is None and weighting.requires_cap:
        raise ConfigError(
            "max_weight",
            None,
            f"'{name}' needs a cap: it is 512 at 1 % edited and 1.65e9 at 0.1 %",
            "Set max_weight, for example to 32.",
        )
    if cap is not None and not cap >= 1.0:
        raise ConfigError(
            "max_weight", cap, "must be at least 1, the weight of the background", "Raise it, or drop it."
        )
    return weighting


def region_weight(name: str, x: npt.ArrayLike, cap: float | None = None) -> npt.NDArray[np.float64]:
    """w(x) of the weighting called `name`, at most `cap`.

    Args:
        name: a key of `WEIGHTINGS`.
        x: A_total / A_edit, any shape, each >= 1.
        cap: the largest weight, inclusive, or None for no cap.

    Returns:
        float64 of the shape of `x`.

    Raises:
        ConfigError: as `check_weighting`.
        ValueError: an x is under 1 or not a number.
    """
    weighting = check_weighting(name, cap)
    ratio = np.asarray(x, dtype=np.float64)
    if not np.all(ratio >= 1.0):
        raise ValueError("x = A_total / A_edit must be at least 1 everywhere")
    # The exponential root overflows to infinity at extreme x; its required cap brings that back to a number.
    with np.errstate(over="ignore"):
        weight = weighting.function(ratio)
    return weight if cap is None else np.minimum(weight, cap)


def weight_map(
    cells: npt.NDArray[np.bool_], name: str, cap: float | None = None, min_edit_fraction: float = 0.0
) -> npt.NDArray[np.float32]:
    """The weight of every latent cell: w(x) where edited, 1 elsewhere.

    Args:
        cells: (h, w) bool on the latent grid, True = edited; x is taken from this very grid.
        name, cap: as `region_weight`.
        min_edit_fraction: in [0, 1]; a smaller edit is weighed as one of this size, x = min(x, 1 / min_edit_fraction).

    Returns:
        (h, w) float32. All ones where every cell is edited (w(1) = 1), and where none is: there is then no region to
        weigh.
    """
    edited = int(np.count_nonzero(cells))
    weights = np.ones(cells.shape, dtype=np.float32)
    if edited:
        x = cells.size / edited
        weights[cells] = region_weight(name, min(x, 1.0 / min_edit_fraction) if min_edit_fraction else x, cap)
    else:
        check_weighting(name, cap)
    return weights
