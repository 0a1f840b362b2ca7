"""The report of a training run: one self-contained HTML page, made of what lies in the run's folder."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup
from PIL import Image

from schemas.atomic import write_bytes
from trainer.reporting.charts import COLOURS, Curve, curve_svg
from trainer.reporting.curves import Lines, held_out_curves, measure_curves, noise_curves, training_curves
from trainer.reporting.progress import duration
from trainer.run_folder import CONFIG, LOG, REPORT, SKIPPED, VALIDATION_LOG
from trainer.validation.validate import EDITS_FILE, step_folder, strip_name

_TEMPLATE = Path(__file__).with_name("report.html")
_MOST_STRIPS = 24
_QUALITY = 90


@dataclass(frozen=True)
class RunFacts:
    """What the run's folder does not tell.

    Args:
        counts: rows of the table of counts: what is counted, and how many.
        finished: all steps are done.
    """

    counts: Sequence[tuple[str, int | str]]
    finished: bool


def write_run_report(run: Path, facts: RunFacts) -> Path:
    """Write `report.html` of a run that has ended or was stopped; returns its place.

    Raises:
        OutputError: it cannot be written.
    """
    place = run / REPORT
    write_bytes(place, run_report(run, facts).encode())
    return place


def run_report(run: Path, facts: RunFacts) -> str:
    """The page as text. Every text is escaped; pictures are data URIs, charts inline SVG."""
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    log, checks = read_lines(run / LOG), read_lines(run / VALIDATION_LOG)
    skipped = len(read_lines(run / SKIPPED))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    groups = [
        ("Training loss", training_curves(log)),
        ("Held-out loss", [*held_out_curves(checks), *noise_curves(checks)]),
        ("Speed, memory and optimizer", measure_curves(log)),
    ]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=f"editmill training: {run.resolve().name}",
        intro=_intro(config, log, facts),
        figures=list(_at_the_end(log, checks)),
        groups=[(name, [_chart(curve) for curve in curves]) for name, curves in groups if curves],
        strips=_strips(run, checks),
        validated_at=checks[-1]["step"] if checks else None,
        counts=[*facts.counts, ("samples skipped because they could not be read", skipped)],
        settings=list(_settings("", config)),
    )


def read_lines(path: Path) -> Lines:
    """The objects of a JSONL file, without a last line that a killed run left unfinished; none where it is missing."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _intro(config: Mapping[str, Any], log: Lines, facts: RunFacts) -> str:
    done = log[-1]["step"] if log else 0
    state = "finished" if facts.finished else f"stopped at step {done:,}, to go on from there"
    patterns = config["trainable"]
    what = f"stage {config['stage']}" if patterns is None else f"{len(patterns)} module patterns"
    weighting = config["weighting"]
    return (
        f"{done:,} of {config['steps']:,} steps, {state}. It trained {what} of {config['model']}, with the edited "
        f"region weighed by the function {weighting['function']} (normalise: {weighting['normalise']})."
    )


def _at_the_end(log: Lines, checks: Lines) -> Iterator[tuple[str, str]]:
    """The few figures at the top: name and value. Those of training are means over the last twentieth of the steps."""
    latest = log[-max(1, len(log) // 20) :]
    shown = (
        ("loss", "training loss", lambda value: f"{value:.4g}"),
        ("loss_inside", "inside the edit", lambda value: f"{value:.4g}"),
        ("loss_outside", "outside it", lambda value: f"{value:.4g}"),
        ("samples_per_second", "samples a second", lambda value: f"{value:.3g}"),
        ("mfu", "MFU", lambda value: f"{100 * value:.1f} %"),
    )
    for key, name, write in shown:
        values = [line[key] for line in latest if isinstance(line.get(key), int | float)]
        if values:
            yield name, write(sum(values) / len(values))
    last = checks[-1] if checks else {}
    for weights, told in (("raw", "raw weights"), ("ema", "averaged weights")):
        if f"{weights}/loss" in last:
            yield f"held-out loss, {told}", f"{last[f'{weights}/loss']:.4g}"
        if f"{weights}/copy_rate" in last:
            yield f"copies of the reference, {told}", f"{100 * last[f'{weights}/copy_rate']:.0f} %"
    memory = [line["memory_gib"] for line in log if isinstance(line.get("memory_gib"), int | float)]
    if memory:
        yield "peak memory", f"{max(memory):.1f} GiB"
    if checks:
        yield "spent validating", duration(sum(line.get("seconds", 0.0) for line in checks))


def _chart(curve: Curve) -> dict[str, Any]:
    legend = [(f"s{place % COLOURS}", name) for place, name in enumerate(curve.series)]
    return {"title": curve.title, "svg": Markup(curve_svg(curve)), "legend": legend, "caption": curve.caption}


def _strips(run: Path, checks: Lines) -> list[tuple[str, str]]:
    """The last validation's strips: instruction, data URI."""
    if not checks:
        return []
    folder = step_folder(run, checks[-1]["step"])
    edits = {(edit["key"], edit["seed"]): edit for edit in read_lines(folder / EDITS_FILE)}
    sources = []
    for place, edit in enumerate(list(edits.values())[:_MOST_STRIPS]):
        path = folder / f"{strip_name(place, edit['key'], edit['seed'])}.png"
        stream = io.BytesIO()
        with Image.open(path) as picture:
            picture.convert("RGB").save(stream, "JPEG", quality=_QUALITY, subsampling=0)
        source = f"data:image/jpeg;base64,{base64.standard_b64encode(stream.getvalue()).decode()}"
        sources.append((edit["instruction"], source))
    return sources


def _settings(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every value of a nested config with its place, `data.shards`."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _settings(f"{where}.{key}" if where else str(key), inner)
    else:
        yield where, json.dumps(value, ensure_ascii=False)
