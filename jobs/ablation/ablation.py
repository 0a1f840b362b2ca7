"""An ablation from its config to its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jobs.ablation.analysis import analyse
from jobs.ablation.config import AblationConfig
from jobs.ablation.mask_quality import check_same_samples, mask_agreement
from jobs.ablation.page import ablation_page
from jobs.ablation.prepare import build_models, cache_data, data_folder, mean_weights, pack_data
from jobs.ablation.results import gather
from jobs.ablation.runs import Run, all_runs, check_trained_alike
from jobs.ablation.sweep import sweep
from jobs.ablation.tables import tables
from jobs.ablation.verdict import verdict
from schemas.atomic import write_bytes
from schemas.errors import InputError

CONFIG, TABLES, PAGE = "config.yaml", "tables.md", "report.html"


@dataclass(frozen=True)
class AblationReport:
    """What an ablation came to.

    Args:
        verdict: in a few sentences.
        page: `report.html`.
    """

    verdict: str
    page: Path


def run_ablation(config: AblationConfig, console: Console, only_report: bool = False) -> AblationReport:
    """Make data and models, train what is not done, and write tables and report.

    Raises:
        EditmillError: a wrong config or input, before anything is trained.
        TrainingStopped: a run failed; those that are done stay.
        InputError: with `only_report`, a run is not done.
    """
    folder = config.folder
    # With stand-ins for what is made first: a wrong training config is told before anything is made.
    stand_ins = dict.fromkeys((arm.scale_as or "" for arm in config.all_arms().values()), 1.0)
    all_runs(config, {name: data_folder(config, name) for name in config.data}, stand_ins)
    shards = pack_data(config, console.print)
    if config.data:
        build_models(config, shards["train"], console.print)
    runs = all_runs(config, shards, mean_weights(config, shards))
    check_trained_alike(runs)
    check_same_samples(config, runs)
    write_bytes(folder / CONFIG, yaml.safe_dump(config.as_json(), sort_keys=False, allow_unicode=True).encode())
    missing = [run for run in runs if not run.is_done]
    if only_report and missing:
        raise InputError("--report", missing[0].name, "is not done", "Run it without --report.")
    if missing:
        cache_data(config, runs, shards, console.print)
    _train(config, runs, console)
    analysis = analyse(config, gather(runs, folder))
    agreement = mask_agreement(config, runs)
    said = verdict(config, analysis)
    write_bytes(folder / TABLES, tables(config, analysis, agreement, said).encode())
    write_bytes(folder / PAGE, ablation_page(config, runs, analysis, agreement, said).encode())
    return AblationReport(said, folder / PAGE)


def _train(config: AblationConfig, runs: list[Run], console: Console) -> None:
    done = sum(run.is_done for run in runs)
    columns = (TextColumn("[bold]runs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=len(runs), completed=done)

        def one_more(run: Run) -> None:
            bar.update(task, advance=1, description=f"last: {run.name}")
            if not console.is_terminal:
                console.print(f"done: {run.name}", highlight=False)

        sweep(config, runs, one_more)
