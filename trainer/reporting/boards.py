"""The boards that a run's figures and pictures go to, behind one small interface."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch.utils.tensorboard import SummaryWriter

from schemas.atomic import write_bytes
from schemas.errors import ConfigError
from trainer.config import TrainConfig
from trainer.config.logging import WandbConfig
from trainer.run_folder import TENSORBOARD, WANDB_ID

Picture = npt.NDArray[np.uint8]


class Board(Protocol):
    """Takes figures and pictures of a step; steps do not decrease."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by `group/name`."""

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """(H, W, 3) uint8 pictures by `group/name`."""

    def close(self) -> None:
        """Nothing more will come."""


class TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """`first_step`: steps done before; points after it, of an earlier life of the run, are dropped."""
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """A picture under each name, on the disk at once: there are few of them, and people wait for them."""
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases. One that goes on after a restart goes on there too, under the id in its folder."""

    def __init__(self, board: WandbConfig, config: TrainConfig) -> None:
        """Begin, or go on.

        Raises:
            ConfigError: Weights & Biases refuses (no key, no network, no such entity).
        """
        import wandb

        self._wandb: Any = wandb
        run = Path(config.output)
        place = run / WANDB_ID
        if not place.is_file():
            write_bytes(place, secrets.token_hex(4).encode())
        try:
            self._run = wandb.init(
                project=board.project,
                entity=board.entity,
                name=board.name or run.resolve().name,
                tags=board.tags,
                mode=board.mode,
                dir=str(run),
                id=place.read_text().strip(),
                # There is nothing to ask about offline; the runs are joined when they are sent.
                resume="allow" if board.mode == "online" else None,
                config=config.as_json(),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.errors.Error as error:
            mend = "Run `wandb login`, or set logging.wandb.mode to offline."
            raise ConfigError("logging.wandb", board.mode, f"could not begin ({error})", mend) from error
        # The step is a figure like others, so that a run that goes on may tell of a step again.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A point on each curve."""
        self._run.log({"step": step, **values})

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """A picture under each name."""
        if pictures:
            self._run.log({"step": step, **{name: self._wandb.Image(image) for name, image in pictures.items()}})

    def close(self) -> None:
        """Send what is left, and wait until the last of it is written: `finish` alone comes back before."""
        self._run.finish()
        self._wandb.teardown()


def check_boards(config: TrainConfig) -> None:
    """Whether the boards that the config names can be had; before anything expensive.

    Raises:
        ConfigError: a package is missing.
    """
    if config.logging.wandb is not None and find_spec("wandb") is None:
        raise ConfigError(
            "logging.wandb",
            config.logging.wandb.project,
            "needs the package wandb, which is not installed",
            'In the clone, run pip install ".[wandb]", or leave logging.wandb out.',
        )


def open_boards(config: TrainConfig, first_step: int) -> list[Board]:
    """The boards that the config names.

    Args:
        first_step: steps done before.

    Raises:
        ConfigError: as `check_boards` and `WeightsAndBiases`.
    """
    check_boards(config)
    boards: list[Board] = []
    if config.logging.tensorboard:
        boards.append(TensorBoard(Path(config.output) / TENSORBOARD, first_step))
    if config.logging.wandb is not None:
        boards.append(WeightsAndBiases(config.logging.wandb, config))
    return boards
