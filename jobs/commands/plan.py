"""`editmill plan`: what will a job come to?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.commands.options import cores_text, duration
from schemas.units import bytes_text

if TYPE_CHECKING:
    from jobs.planning.forecast import Forecast
    from jobs.planning.probe import Probe


def plan(
    config: Annotated[Path, typer.Argument(help="Pipeline config, YAML; see configs/.", show_default=False)],
    rows: Annotated[int, typer.Option(min=1, help="Rows to try, of up to eight partitions.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Which rows: the same seed, the same rows.")] = 0,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cores of the job. Default: one in process; on Ray runner.workers, or this machine's."
        ),
    ] = None,
    core_hour_price: Annotated[float | None, typer.Option(min=0, help="Price of an hour of one core.")] = None,
    gpu_hour_price: Annotated[float | None, typer.Option(min=0, help="Price of an hour of one GPU.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")] = False,
) -> None:
    """Say what a job will come to before it is run: rows at every step, time, GPU-hours, bytes and money.

    Checks the config, lists the input, and runs some of its rows through every step and the pack in this process; their
    rates are carried over to the whole input. Writes plan.json into the run folder: a job that would not fit on the
    disk is refused, and when it has ended, its report says by how much the plan was off. Steps that ask a model ask it
    about the rows tried; the replies are kept for the job. A step that asks vLLM is passed over, and named.

    Example:

        editmill plan configs/pipeline-pairs.yaml --rows 500 --cores 64 --core-hour-price 0.04
    """
    import json

    from jobs.build import build_chain
    from jobs.chain import over_partitions
    from jobs.config import PipelineConfig
    from jobs.places import check_places
    from jobs.planning.forecast import forecast
    from jobs.planning.forecast_file import write_forecast
    from jobs.planning.probe import probe
    from schemas.config import parse_config, read_yaml
    from schemas.errors import InputError

    job = parse_config(PipelineConfig, read_yaml(config), str(config))
    chain = build_chain(job, str(config))
    check_places(job, chain)
    for step in chain.steps:
        step.preflight()
    partitions = chain.plan.source.partitions()
    if not partitions:
        raise InputError(f"{config}: source", job.source, "has no partitions", "Check the path.")
    chain = over_partitions(chain, partitions)
    pack_config = None if job.pack is None else job.pack.pack_config()
    tried = probe(chain, partitions, rows, seed, job.runner.gpus_per_model or 0.0, pack_config)
    if not tried.stages[0].rows_in:
        raise InputError(f"{config}: source", job.source, "gave no row in the partitions tried", "Try another --seed.")
    expected = forecast(
        tried.stages, tried.rows, tried.partitions, cores or job.runner.cores, core_hour_price, gpu_hour_price
    )
    path = write_forecast(job.folder, chain.plan.fingerprint, expected)
    if as_json:
        typer.echo(json.dumps({**expected.as_json(), "outlook": dict(tried.outlook)}))
        return
    _show(expected, tried)
    typer.echo(f"plan: {path}")


def _show(expected: Forecast, tried: Probe) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("step")
    for name in ("rows in", "kept", "core time", "ms/row", "on disk"):
        table.add_column(name, justify="right")
    table.add_column("rejected", overflow="fold")
    for stage in expected.stages:
        rate = f"{stage.seconds / stage.rows_in * 1e3:,.2f}" if stage.rows_in else "-"
        reasons = ", ".join(f"{reason} {count:,.0f}" for reason, count in stage.rejected.items())
        numbers = (
            f"{stage.rows_in:,.0f}",
            f"{stage.kept:,.0f}",
            duration(stage.seconds),
            rate,
            bytes_text(stage.bytes),
        )
        table.add_row(stage.name, *numbers, reasons)
    Console().print(table)
    said = "counted" if tried.partitions_read == tried.partitions else "estimated"
    typer.echo(
        f"input       {expected.rows:,.0f} rows ({said}) in {tried.partitions:,} partitions; "
        f"{tried.stages[0].rows_in:,} rows of {tried.partitions_read} partitions were tried"
    )
    if tried.outlook:
        told = (
            f"{name.replace('_', ' ')} {bytes_text(figure) if name.startswith('bytes') else f'{figure:,}'}"
            for name, figure in tried.outlook.items()
        )
        typer.echo(f"metadata    {', '.join(told)}")
    typer.echo(
        f"yield       {expected.kept:,.0f} rows, 95 % interval {expected.kept_low:,.0f} to {expected.kept_high:,.0f}"
    )
    typer.echo(f"time        {duration(expected.seconds)} on {cores_text(expected.cores)}, start-up of a cluster apart")
    gpus = f", {expected.gpu_hours:,.3g} GPU-hours" if expected.gpu_hours else ""
    typer.echo(f"work        {expected.core_hours:,.3g} core-hours{gpus}")
    for stage in expected.stages:
        if stage.prompt_tokens or stage.completion_tokens:
            cost = f", {stage.model_money:,.2f}" if stage.model_money else ""
            tokens = f"{stage.prompt_tokens:,.0f} prompt and {stage.completion_tokens:,.0f} completion tokens"
            typer.echo(f"model       {stage.name}: {tokens}{cost}")
        if not stage.tried:
            said = "not tried: vLLM answers in the job only. Its rows are taken as kept; its time, GPU-hours and tokens"
            typer.echo(f"model       {stage.name}: {said} are not in these figures, nor what later steps reject by it")
    shards = f", {bytes_text(expected.shard_bytes)} of shards" if expected.shard_bytes else ""
    typer.echo(f"disk        {bytes_text(expected.run_bytes)} in the run folder{shards}")
    if expected.money is not None:
        typer.echo(f"money       {expected.money:,.2f}")
