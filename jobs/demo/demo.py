"""The demo from first to last. Each part says what it does, shows a bar, and is not done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jobs.config import PipelineConfig
from jobs.demo.collection import write_collection
from jobs.demo.pairs import KNOWN_NAME, PAIRS_NAME, write_pairs
from jobs.demo.plan import HELD_OUT, LONGEST_SIDE, RECIPES, DemoPlan
from jobs.demo.stage import once
from jobs.launch import tell
from jobs.pipeline import RunReport, run_pipeline
from jobs.progress import progress_for
from pipelines.shards.read import open_packed
from schemas.config import parse_config
from unified_model.quiet import quiet_libraries

if TYPE_CHECKING:
    from pipelines.synthesis.photographs import Photograph

VERSION = 1
"""Of what the demo's own parts write; raise it when they would write something else."""
MADE_BY = ("editmill", "numpy", "opencv-python-headless", "pillow", "scikit-image", "scikit-learn")
FITTED_BY = ("editmill", "diffusers", "torch", "transformers")


class Demo:
    """One demo in one folder."""

    def __init__(self, plan: DemoPlan, console: Console) -> None:
        quiet_libraries()
        self.plan = plan
        self.console = console
        self._part = 0

    def run_data_part(self) -> tuple[RunReport, RunReport]:
        """Collection, model (its VLM writes the captions), images, pairs, edits; returns the two runs."""
        from pipelines.synthesis.photographs import load_photographs, scaled

        plan = self.plan
        photographs = load_photographs()
        self._heading(f"A LAION-style collection over {len(photographs)} photographs")
        self._once(plan.collection, MADE_BY, lambda folder: write_collection(folder, photographs), "photographs")
        seen = [scaled(one, LONGEST_SIDE) for one in photographs if one.name != HELD_OUT]

        self._heading("A small model of the real classes, random weights; its autoencoder is fitted for some seconds")
        self._once(plan.model, FITTED_BY, lambda folder: self._build_model(folder, seen), "model")

        self._heading("Images: filter by aesthetic score and size, read, recaption with the VLM, pack")
        images = self._pipeline(plan.image_pipeline())

        chosen = self._kept_photographs(seen)
        self._heading(f"Before/after pairs from {len(chosen)} of the kept photographs (one kept aside)")
        names = [photograph.name for photograph in chosen]
        self._once(
            plan.pairs,
            MADE_BY,
            lambda folder: write_pairs(folder, chosen, plan.seed),
            "pairs",
            photographs=names,
        )
        self._heading("Edits: read the pairs, build masks, pack")
        return images, self._pipeline(plan.edit_pipeline())

    def run_learning_part(self, images: RunReport, edits: RunReport) -> None:
        """Train on the edit shards, edit the held-out photograph, write sheet and report."""
        from PIL import Image

        from jobs.demo.learning import edit, read_log, train, train_config
        from jobs.demo.report import HeldOutEdit, write_report
        from jobs.demo.scores import score_masks
        from jobs.preview_job import PreviewOptions, write_preview
        from jobs.samples.packed import PackedSamples
        from pipelines.synthesis.edits import make_edit
        from pipelines.synthesis.photographs import load_photographs, scaled
        from schemas.images import decode_image

        plan = self.plan
        self._heading("Training on the edit shards: DeepSpeed, flow matching, w(x) = log2(x) + 1, sharded EMA")
        config = train_config(plan.model, plan.edit_shards, plan.training, plan.train_steps, plan.seed)
        train(plan.folder / "train.yaml", config)

        self._heading("One edit of the held-out photograph")
        photograph = next(scaled(one, LONGEST_SIDE) for one in load_photographs() if one.name == HELD_OUT)
        wanted = make_edit("recolour", photograph, plan.seed)
        done = plan.folder / "edit"

        def make(folder: Path) -> None:
            for name, pixels in edit(plan.training / "export", wanted.instruction, wanted.reference, plan.seed).items():
                Image.fromarray(pixels).save(folder / f"{name}.png")

        self._once(done, FITTED_BY, make, "edit", train=config)
        outputs = {name: decode_image((done / f"{name}.png").read_bytes()) for name in ("ema", "raw")}

        self._heading("Report")
        with self._bar("masks against the known regions"):
            scores = score_masks(plan.pairs / PAIRS_NAME, plan.pairs / KNOWN_NAME, RECIPES)
        with self._bar("contact sheet and page"):
            shown = PackedSamples(plan.edit_shards)
            write_preview(shown, plan.folder, PreviewOptions(count=12, seed=plan.seed, with_steps=False))
            write_report(
                plan.folder / "report.html",
                images.counts,
                edits.counts,
                plan.image_shards,
                plan.folder / "contact-sheet.png",
                scores,
                read_log(plan.training),
                HeldOutEdit(wanted.instruction, wanted.reference, wanted.target, outputs),
            )

    def tell_what_next(self) -> None:
        """Where to look, and what to do with data and a GPU of one's own."""
        folder = self.plan.folder
        self.console.rule("[bold]Done")
        lines = (
            f"Look at    {folder}/report.html         every step's counts, the masks, the loss, the edit",
            f"           {folder}/contact-sheet.png   the masks alone (and preview.html)",
            "",
            "The models were small and random: captions and edit show the path, not quality. With your own data:",
            "  editmill run configs/pipeline-pairs.yaml          your pairs -> masks -> shards (see the file)",
            "  editmill preview runs/pairs/shards                look at the masks before you train",
            "and with a GPU and pretrained weights:",
            "  editmill train configs/train/edit-8xh100.yaml --processes 8",
            "  editmill edit --checkpoint runs/edit/export --image in.png --instruction '...' --output out.png",
        )
        for line in lines:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _heading(self, text: str) -> None:
        self._part += 1
        self.console.print(f"\n[bold cyan]{self._part}.[/] [bold]{text}[/]", highlight=False)

    def _once(
        self, folder: Path, packages: tuple[str, ...], make: Callable[[Path], None], what: str, **identity: Any
    ) -> None:
        versions = {package: metadata.version(package) for package in packages}
        with self._bar(what) as say:
            if not once(folder, {"demo": VERSION, "seed": self.plan.seed, "versions": versions, **identity}, make):
                say("finished before: nothing to do")

    def _pipeline(self, values: dict[str, Any]) -> RunReport:
        config = parse_config(PipelineConfig, values, str(values["name"]))
        report = run_pipeline(config, progress_for(Console(stderr=True)))
        tell(report, self.console)
        return report

    def _build_model(self, folder: Path, photographs: list[Photograph]) -> None:
        from jobs.demo.learning import build_model

        build_model(folder, photographs, self.plan.seed)

    def _kept_photographs(self, photographs: list[Photograph]) -> list[Photograph]:
        """Those among `photographs` that the image pipeline kept."""
        urls = {sample["url"] for sample in open_packed(self.plan.image_shards).samples()}
        return [one for one in photographs if any(Path(url).stem == one.name for url in urls)]

    @contextmanager
    def _bar(self, what: str) -> Iterator[Callable[[str], None]]:
        columns = (TextColumn("{task.description:<34}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}"))
        with Progress(*columns, TimeElapsedColumn(), console=self.console) as progress:
            task = progress.add_task(what, total=None, note="")
            notes: list[str] = []
            yield notes.append
            progress.update(task, total=1, completed=1, note=notes[-1] if notes else "")
