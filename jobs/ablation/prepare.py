"""What the runs share, made once: packed folders, models, and the mean weight of an arm on its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobs.ablation.config import AblationConfig
from jobs.ablation.runs import Run, model_folder
from jobs.caching.config import CacheConfig
from jobs.caching.job import cache
from jobs.config import PipelineConfig
from jobs.pipeline import run_pipeline
from schemas.config import parse_config
from schemas.errors import InputError, RowRejected
from schemas.images import decode_image
from trainer.config import TrainConfig
from trainer.data.loader import micro_batches
from trainer.data.members import read_sample
from trainer.data.shards import open_shards
from trainer.data.training_data import open_data
from unified_model.card import CARD_NAME
from unified_model.learner import build_learner, with_fresh_core
from unified_model.quiet import quiet_libraries

Say = Callable[[str], None]

PICTURES = 400
"""Images that the learner's VAE is fitted to."""
WORDS_FROM = 20_000
"""Samples whose instructions give the learner its words."""
CACHED_TOGETHER = 16
"""Pictures that are encoded together for the cache."""
WEIGHED = 4096
"""Samples whose mean weight is taken."""


def data_folder(config: AblationConfig, name: str) -> Path:
    """The run folder of one of the pipelines of `data`."""
    return config.folder / "data" / name


def pack_data(config: AblationConfig, say: Say) -> dict[str, Path]:
    """Run the pipelines of `data`; a finished one does nothing.

    Returns:
        name -> packed folder.

    Raises:
        EditmillError: as `run_pipeline`.
    """
    shards = {}
    for name, values in config.data.items():
        folder = data_folder(config, name)
        where = f"data.{name}"
        pipeline = parse_config(PipelineConfig, {"name": name, "output": folder, "pack": {}, **values}, where)
        report = run_pipeline(pipeline, None, where)
        if pipeline.shards is None or not report.kept:
            raise InputError(where, str(folder), "kept no row, or packs none", "Look into its report.html.")
        say(f"{name}: {report.kept:,} samples in {pipeline.shards}")
        shards[name] = pipeline.shards
    return shards


def build_models(config: AblationConfig, shards: Path, say: Say) -> None:
    """The model that each seed begins with, where none is named; those that are there stay.

    Args:
        shards: the packed folder of `train`.
    """
    missing = [seed for seed in config.seeds if not (model_folder(config, seed) / CARD_NAME).is_file()]
    if config.model is not None or not missing:
        return
    say(f"building the learner: its VAE is fitted in {config.learner.vae_steps:,} steps")
    quiet_libraries()
    pictures, words = _pictures_and_words(shards)
    model = build_learner(config.learner, pictures, words)
    for seed in missing:
        with_fresh_core(model, config.learner, seed).save_pretrained(model_folder(config, seed))


def cache_data(config: AblationConfig, runs: Sequence[Run], shards: Mapping[str, Path], say: Say) -> None:
    """Store what the frozen parts make of the data that arms train on, without loss, where the config asks for it; what
    stands already stays.

    Raises:
        EditmillError: as `jobs.caching.job.cache`.
    """
    if config.cache == "none":
        return
    train, drop = runs[0].config, runs[0].config.data.drop
    with_features = config.cache == "features"
    for name in sorted({arm.data for arm in config.all_arms().values()}):
        values = {
            "packed": shards[name],
            "model": train.model,
            "resolution": train.data.resolution,
            "buckets": train.data.buckets,
            "compute": train.engine.dtype,
            "stored": "float32",
            "features": with_features,
            "dropped": with_features and bool(drop.text or drop.image or drop.both),
            "batch_size": CACHED_TOGETHER,
            "device": "auto" if config.gpus_per_run else "cpu",
        }
        report = cache(parse_config(CacheConfig, values, f"cache of data.{name}"))
        if report.done_now:
            say(f"{name}: {config.cache} of {report.card.stored:,} samples cached in {report.folder}")


def mean_weights(config: AblationConfig, shards: Mapping[str, Path]) -> dict[str, float]:
    """The mean weight of a latent cell on the training data, of every arm that another is scaled as."""
    arms = config.all_arms()
    wanted = sorted({arm.scale_as for arm in arms.values() if arm.scale_as is not None})
    return {name: _mean_weight(config, name, shards.get(arms[name].data)) for name in wanted}


def _mean_weight(config: AblationConfig, name: str, shards: Path | None) -> float:
    values = {
        **config.train,
        "model": str(model_folder(config, config.seeds[0])),
        "output": str(config.folder),
        "weighting": config.all_arms()[name].weighting,
        "validation": None,
    }
    if shards is not None:
        values["data"] = {**values.get("data", {}), "shards": [str(shards)]}
    train = parse_config(TrainConfig, values, f"arm {name}")
    data = open_data(train, 1)
    steps = -(-min(len(data.index), WEIGHED) // train.global_batch(1))
    batches = micro_batches(data, train.model_copy(update={"steps": steps}), None, 0, 0, 1)
    return float(np.mean([float(weights.mean()) for batch in batches for weights in batch.weights[batch.usable]]))


def _pictures_and_words(shards: Path) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    index = open_shards([shards], {"ok", "global"}, ["train"])
    pictures: list[npt.NDArray[np.uint8]] = []
    words: set[str] = set()
    for number in range(min(len(index), WORDS_FROM)):
        sample = read_sample(index.shard(number), *index.span(number))
        words.update((sample.instruction or "").split())
        if len(pictures) < PICTURES:
            try:
                pictures.append(decode_image(sample.target))
            except RowRejected as rejection:
                raise InputError("data.train", str(shards), rejection.sentence, "Validate the shards.") from rejection
    return pictures, sorted(words)
