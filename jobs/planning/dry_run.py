"""`editmill train --dry-run`: a plan of a training run as text that is read in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jobs.commands.options import duration
from trainer.config import TrainConfig
from trainer.measures.advice import Change, advise, spare
from trainer.measures.memory import Item
from trainer.measures.plan import Plan, plan_run
from trainer.stages import STAGES

YARDSTICK = 0.4
"""The share of the peak at which a time is told: what a large model commonly reaches. The run logs its own."""
GIB = 2**30


def show_dry_run(
    config: TrainConfig, name: str, processes: int | None, nodes: int | None, device_bytes: int | None
) -> bool:
    """Plan a run and print it; whether it fits (True where that cannot be known).

    Raises:
        ConfigError, InputError: as `trainer.measures.plan.plan_run`.
    """
    console = Console(highlight=False, soft_wrap=False)
    plan = plan_run(config, processes, nodes, device_bytes)
    console.print(Text(f"Dry run of {name}: {_machines(plan)}", style="bold"), soft_wrap=True)
    console.print(_facts(plan))
    console.print()
    console.print(Text("Parameters that train", style="bold"))
    console.print(_opened(plan))
    console.print()
    unit = "GiB" if plan.memory.needed >= GIB else "MiB"
    console.print(Text(f"Memory of one process, in {unit}", style="bold"))
    console.print(_memory(plan))
    if plan.memory.host:
        console.print("In the machine's memory, for each process, in GiB:")
        console.print(_items(plan.memory.host))
    _verdict(console, plan)
    return plan.fits is not False


def _machines(plan: Plan) -> str:
    nodes = f" on {plan.nodes} nodes" if plan.nodes > 1 else ""
    if plan.gpu is None:
        return f"{_many(plan.ranks, 'process')}{nodes}"
    return f"{_many(plan.ranks, 'process')}{nodes}, one {plan.gpu} each"


def _facts(plan: Plan) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, lines in (
        ("model", _model(plan)),
        ("stage", _stage(plan)),
        ("data", _data(plan)),
        ("step", _step(plan)),
        ("compute", _compute(plan)),
    ):
        for number, line in enumerate(lines):
            table.add_row("" if number else title, line)
    return table


def _model(plan: Plan) -> list[str]:
    if plan.is_release:
        return [f"[yellow]{plan.config.model} is not on this machine:[/] counted at {plan.model}"]
    return [plan.model]


def _stage(plan: Plan) -> list[str]:
    return [f"{plan.config.stage}: {STAGES[plan.config.stage].purpose}"]


def _opened(plan: Plan) -> Table:
    opened = sum(count.parameters for count in plan.counts)
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for count in plan.counts:
        table.add_row(f"{count.parameters:,}", Text(count.pattern))
    table.add_row(f"{opened:,}", f"of {plan.core:,} in the core ({opened / plan.core:.1%})", style="bold")
    return table


def _data(plan: Plan) -> list[str]:
    data, config = plan.data, plan.config
    buckets = ", ".join(f"{one.width}x{one.height}" for one in plan.buckets)
    if data is None:
        folders = ", ".join(folder for dataset in config.data.mixture for folder in dataset.shards)
        return [f"[yellow]not on this machine, samples not counted:[/] {folders}", f"buckets {buckets}"]
    samples = len(data.index)
    epochs = config.steps * config.global_batch(plan.ranks) / samples
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(data.index.left_out.items())) or "none"
    lines = [f"{samples:,} samples, {epochs:.3g} epochs (left out: {left_out})"]
    if len(data.dataset_counts) > 1:
        lines += [f"{one.samples:,} of {one.name}, {one.share:.1%} of the run" for one in data.dataset_counts]
    for one in data.bucket_counts:
        into = "" if one.merged_into is None else f", taken to {one.merged_into.name}"
        lines.append(f"{one.samples:,} in {one.bucket.name}, {one.bucket.width}x{one.bucket.height}{into}")
    return lines


def _step(plan: Plan) -> list[str]:
    config = plan.config
    samples = config.global_batch(plan.ranks)
    tokens = plan.image_tokens + plan.context_tokens
    return [
        f"{_many(samples, 'sample')} = {config.batch_size} x {config.gradient_accumulation} accumulated x "
        f"{_many(plan.ranks, 'process')}",
        f"a sample is {tokens:,} tokens: {plan.image_tokens:,} of the image, {plan.context_tokens:,} of prompt and "
        f"reference ({plan.row.width}x{plan.row.height}, one reference, a prompt of {plan.row.prompt_tokens})",
    ]


def _compute(plan: Plan) -> list[str]:
    parts = plan.parts
    core = parts.denoiser + parts.conditioner
    towers = parts.vlm + parts.siglip + parts.vae + parts.text
    again = parts.total.recompute / parts.total.model
    lines = [
        f"{_flops(parts.total.model)} a sample: {_flops(core.forward)} forward and {_flops(core.backward)} backward "
        f"in the core, {_flops(towers.forward)} in what is frozen beside it",
        f"{_flops(plan.step_flops)} a step" + (f", and {again:.0%} more for recomputation" if again else ""),
    ]
    if plan.peak_flops is not None:
        seconds = plan.step_flops / plan.ranks / plan.peak_flops / YARDSTICK
        samples = plan.config.global_batch(plan.ranks) / seconds
        lines.append(
            f"at {YARDSTICK:.0%} MFU (of {plan.peak_flops / 1e12:,.0f} TFLOP/s): {samples:.3g} samples/s, "
            f"{duration(seconds)} a step, {duration(seconds * plan.config.steps)} in all"
        )
    return lines


def _memory(plan: Plan) -> Table:
    memory = plan.memory
    table = _table()
    unit = GIB if memory.needed >= GIB else 2**20
    for item in memory.resident:
        _row(table, item, unit)
    table.add_section()
    table.add_row("stays", _size(sum(item.bytes for item in memory.resident), unit), "", style="bold")
    largest = max(memory.phases, key=lambda item: item.bytes)
    table.add_section()
    for item in memory.phases:
        _row(table, item, unit, style="" if item is largest else "dim", prefix="+ ")
    table.add_section()
    table.add_row("peak", _size(memory.peak, unit), f"while in: {largest.name}", style="bold")
    if memory.overhead:
        table.add_row(
            "beside torch", _size(memory.overhead, unit), "CUDA, NCCL, and what the allocator loses to fragments"
        )
        table.add_row("needed", _size(memory.needed, unit), "", style="bold")
    return table


def _items(items: Sequence[Item]) -> Table:
    table = _table()
    for item in items:
        _row(table, item, GIB)
    return table


def _table() -> Table:
    table = Table(show_header=False, show_edge=False, pad_edge=False, box=None, padding=(0, 1))
    table.add_column(no_wrap=True, min_width=22)
    table.add_column(justify="right", no_wrap=True, min_width=7)
    table.add_column(overflow="fold", style="dim")
    return table


def _row(table: Table, item: Item, unit: int, style: str = "", prefix: str = "") -> None:
    table.add_row(prefix + item.name, _size(item.bytes, unit), item.note, style=style)


def _verdict(console: Console, plan: Plan) -> None:
    room = plan.device_bytes
    console.print()
    if room is None:
        console.print("Memory of the device is not known: set hardware.gpu, or give --device-memory.")
        return
    free = (room - plan.memory.needed) / GIB
    if plan.fits:
        where = f"{room / GIB:.1f} GiB" + ("" if plan.on_gpu else " of this machine's memory")
        console.print(f"[bold green]Fits[/] into {where}, with {free:.1f} GiB to spare.")
        _changes(console, "There is room for:", spare(plan), room)
        return
    console.print(f"[bold red]Does not fit[/] into {room / GIB:.1f} GiB: {-free:.1f} GiB too much.")
    _changes(console, "What to change, the most effective first:", advise(plan), room)


def _changes(console: Console, title: str, changes: Iterable[Change], room: int) -> None:
    table = Table(show_header=False, show_edge=False, pad_edge=False, box=None, padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    found = False
    for change in changes:
        found = True
        fits = change.needed <= room
        verdict = Text("fits" if fits else "not alone", style="green" if fits else "dim")
        table.add_row(f"{change.needed / GIB:.1f} GiB", verdict, f"{change.text}  [dim]({change.cost})[/]")
    if found:
        console.print(title)
        console.print(Padding(table, (0, 0, 0, 2)))


def _size(size: int, unit: int) -> str:
    return f"{size / unit:,.1f}" if size >= unit / 20 else f"{size / unit:,.3f}"


def _flops(count: float) -> str:
    for unit, name in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
        if count >= unit:
            return f"{count / unit:.3g} {name}" if count < 100 * unit else f"{count / unit:,.0f} {name}"
    return f"{count / 1e6:.3g} MFLOP"


def _many(count: int, name: str) -> str:
    plural = "es" if name.endswith("s") else "s"
    return f"{count:,} {name}{'' if count == 1 else plural}"
