"""A tuning session: what is set, what is drawn, and what each command does to it. Knows no terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.samples.base import Samples, Unreadable
from jobs.tune.drawing import Drawn, draw
from jobs.tune.pairs import TunedPair, tuned_pairs
from jobs.tune.settings import Settings
from pipelines.masks.step import EditMasks, EditMasksConfig
from pipelines.preview.card import edit_card, weight_top
from pipelines.preview.page import preview_page
from schemas.atomic import write_bytes
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError
from schemas.weighting import check_weighting

PAGE_NAME = "tune.html"
RELOAD_SECONDS = 3
"""How often a page left open in a browser looks for a newer one while the session lasts."""


@dataclass
class TuneSession:
    """The same few pairs, masked again at every change.

    Args:
        samples: what pairs are chosen from.
        settings: the recipe and what is set of it.
        count, seed: of the choice.
        weighting, max_weight: as `schemas.weighting.region_weight`.
        masking: further keys of the step `masks` (`on_size_mismatch`).
        page: the page that is written after every change, or None.
    """

    samples: Samples
    settings: Settings
    count: int = 6
    seed: int = 0
    weighting: str = "logarithmic"
    max_weight: float | None = None
    masking: Mapping[str, Any] = field(default_factory=dict)
    page: Path | None = None
    pairs: list[TunedPair] = field(default_factory=list)
    refused: list[Unreadable] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)
    _saved: set[Path] = field(default_factory=set)

    def start(self) -> None:
        """Check what is set, choose and decode the pairs, and draw them.

        Raises:
            ConfigError: the recipe, a parameter or the weighting is wrong.
            InputError: none of the pairs chosen can be masked.
        """
        check_weighting(self.weighting, self.max_weight)
        self.settings.make()
        self._choose(self.seed)
        self._draw(compare=False)

    def change(self, settings: Settings) -> None:
        """Mask the pairs by other settings.

        Raises:
            ConfigError: they are wrong; nothing has changed then.
        """
        settings.make()
        self.settings = settings
        self._draw(compare=True)

    def next_pairs(self) -> None:
        """Go on to the pairs of the next seed.

        Raises:
            InputError: there are no others, or none of them can be masked; nothing has changed then.
        """
        if len(self.samples) <= self.count:
            raise InputError("next", self.samples.name, "all of its pairs are shown already", "Lower --count.")
        self._choose(self.seed + 1)
        self._draw(compare=False)

    def write_page(self, reloads: bool) -> None:
        """Write the page with the four steps of every pair, where there is to be one.

        Args:
            reloads: whether a browser that shows it is to look for a newer one.
        """
        if self.page is None:
            return
        if not all(one.look.steps for one in self.drawn):
            self._draw(compare=False, keep=True)
        looks = [one.look for one in self.drawn]
        top = weight_top(looks)
        formula = check_weighting(self.weighting, self.max_weight).formula
        cap = "" if self.max_weight is None else f", at most {self.max_weight:g}"
        told = (f"{len(looks)} of {len(self.samples):,} pairs, seed {self.seed}", f"w(x) = {formula}{cap}")
        cards = [edit_card(look, top) for look in looks]
        page = preview_page(cards, f"Tuning {self.settings.sentence()}", " · ".join(told), top)
        if reloads:
            # The browser keeps the place on a page that it loads again.
            page = page.replace("<head>", f'<head>\n<meta http-equiv="refresh" content="{RELOAD_SECONDS}">', 1)
        write_bytes(self.page, page.encode())

    def save(self, path: Path) -> None:
        """Write the step `masks` as it is set, for a pipeline config.

        Raises:
            ConfigError: the name is no .yaml file, or one that this session did not write stands there.
        """
        if path.suffix not in (".yaml", ".yml"):
            raise ConfigError("save", str(path), "must end in .yaml", "Write for example: save masks.yaml")
        if path.exists() and path.resolve() not in self._saved:
            raise ConfigError("save", str(path), "stands there already", "Give another name.")
        write_bytes(path, self.settings.step(self.masking).encode())
        self._saved.add(path.resolve())

    def _choose(self, seed: int) -> None:
        step = EditMasks(parse_config(EditMasksConfig, self.masking, "--tune"))
        step.setup()
        pairs, refused = tuned_pairs(self.samples, step, self.count, seed)
        if not pairs:
            first = f"; the first, {refused[0].name}: {refused[0].sentence}" if refused else ""
            mend = "Choose another --seed, or --on-size-mismatch resize_reference."
            raise InputError("pairs", self.samples.name, f"none of {len(refused)} can be masked{first}", mend)
        self.pairs, self.refused, self.seed = pairs, refused, seed

    def _draw(self, compare: bool, keep: bool = False) -> None:
        before: Sequence[Drawn] | None = self.drawn if compare else None
        drawn = draw(self.pairs, self.settings.make(), before, self.weighting, self.max_weight, self.page is not None)
        if keep:
            drawn = [Drawn(new.look, new.result, old.iou) for new, old in zip(drawn, self.drawn, strict=True)]
        self.drawn = drawn
