"""Which curves a training run's report shows, from the lines of its logs. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schemas.axes import Point
from trainer.reporting.charts import Curve
from trainer.validation.bins import AREA_BINS

Lines = list[dict[str, Any]]
"""Lines of log.jsonl or validation.jsonl, in the order of their steps."""

_WEIGHTS = {"raw": "raw weights", "ema": "averaged weights"}
_SHOWN_VALIDATIONS = 4


def training_curves(log: Lines) -> list[Curve]:
    """The loss that was minimised, and the unweighted error inside and outside the edit."""
    return _with_points(
        Curve("Loss", {"weighted, as minimised": _of(log, "loss"), "unweighted": _of(log, "loss_unweighted")},
              y_label="loss", caption="Faint: every step; bold: its moving mean."),
        Curve("Inside and outside the edit", {"inside": _of(log, "loss_inside"), "outside": _of(log, "loss_outside")},
              y_label="unweighted error"),
        Curve("Share of the loss inside the edit", {"inside": _of(log, "share_inside", 100.0)}, y_label="per cent"),
        Curve("Mean weight of a latent cell", {"mean weight": _of(log, "mean_weight")}, y_label="weight"),
    )  # fmt: skip


def held_out_curves(checks: Lines) -> list[Curve]:
    """Held-out loss by weights, by region, and by bin of the edited area inside and outside; and the copy-rate."""
    best = _best_weights(checks)
    told = _WEIGHTS[best]
    regions = {name: _of(checks, f"{best}/loss_{name}") for name in ("inside", "outside", "border")}
    by_bin = {
        region: {f"{name} edited": _of(checks, f"{best}/loss_{region}_{key}") for key, name in AREA_BINS.items()}
        for region in ("inside", "outside")
    }
    return _with_points(
        Curve("Held-out loss", {name: _of(checks, f"{key}/loss") for key, name in _WEIGHTS.items()},
              y_label="unweighted error", caption="Fixed samples, fixed noise, nine fixed noise levels."),
        Curve("Held-out loss by region", regions, y_label="unweighted error", caption=f"With the {told}."),
        Curve("Inside the edit, by edited area", by_bin["inside"], y_label="unweighted error",
              caption=f"With the {told}."),
        Curve("Outside the edit, by edited area", by_bin["outside"], y_label="unweighted error",
              caption=f"With the {told}."),
        Curve("Copies of the reference", {name: _of(checks, f"{key}/copy_rate") for key, name in _WEIGHTS.items()},
              y_label="share of the edits", y_bounds=(0.0, 1.0),
              caption="Edits that move the edited region hardly away from the reference."),
        Curve("Distance of edits", {
            "inside, to the target": _of(checks, f"{best}/edit_inside"),
            "outside, to the reference": _of(checks, f"{best}/edit_outside"),
        }, y_label="mean difference, 0 to 1", caption=f"With the {told}."),
    )  # fmt: skip


def noise_curves(checks: Lines) -> list[Curve]:
    """Held-out loss over the noise level, at the first validation, the last, and some between."""
    best = _best_weights(checks)
    if len(checks) > _SHOWN_VALIDATIONS:
        apart = (len(checks) - 1) / (_SHOWN_VALIDATIONS - 1)
        checks = [checks[round(place * apart)] for place in range(_SHOWN_VALIDATIONS)]
    prefix = f"{best}/loss_t"
    series = {
        f"step {line['step']:,}": sorted(
            (float(key.removeprefix(prefix)), value) for key, value in line.items() if key.startswith(prefix)
        )
        for line in checks
    }
    return _with_points(
        Curve("Held-out loss by noise level", series, x_label="noise level t (0 clean, 1 noise)",
              y_label="unweighted error", caption=f"With the {_WEIGHTS[best]}.")
    )  # fmt: skip


def measure_curves(log: Lines) -> list[Curve]:
    """Speed, memory, gradient norm and learning rate."""
    shares = {
        "MFU": _of(log, "mfu", 100.0),
        "HFU": _of(log, "hfu", 100.0),
        "waiting for data": _of(log, "data_wait", 100.0),
    }
    return _with_points(
        Curve("Speed", {"samples a second": _of(log, "samples_per_second")}, y_label="samples a second"),
        Curve("Use of the device", shares, y_label="per cent"),
        Curve("Memory", {"allocated": _of(log, "memory_gib"), "reserved": _of(log, "memory_reserved_gib")},
              y_label="GiB, peak so far"),
        Curve("Gradient norm", {"before clipping": _of(log, "gradient_norm")}, y_label="norm", log_y=True),
        Curve("Learning rate", {"learning rate": _of(log, "learning_rate")}, y_label="learning rate"),
    )  # fmt: skip


def _of(lines: Lines, key: str, factor: float = 1.0) -> list[Point]:
    return [(float(line["step"]), factor * line[key]) for line in lines if isinstance(line.get(key), int | float)]


def _best_weights(checks: Lines) -> str:
    """The averaged weights where they were validated, since those are exported for use."""
    return "ema" if any("ema/loss" in line for line in checks) else "raw"


def _with_points(*curves: Curve) -> list[Curve]:
    """The curves that have something to draw, each without its empty series."""
    kept = []
    for curve in curves:
        series = {name: points for name, points in curve.series.items() if points}
        if series:
            kept.append(replace(curve, series=series))
    return kept
