"""Everything a run needs, built in the order in which it can go wrong cheaply: config, shards, model, stage, engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from schemas.errors import ConfigError
from schemas.masks import LATENT_STRIDE
from trainer import run_folder
from trainer.adapters import open_stage
from trainer.cache.open import RunNeeds, TrainingCache, open_cache
from trainer.checkpoints import checkpoint
from trainer.checkpoints.ema import ShardedEma
from trainer.checkpoints.model_files import ModelMarks
from trainer.checkpoints.optimizer_state import trainable
from trainer.checkpoints.retention import best_step
from trainer.checkpoints.room import bytes_needed, check_room, checkpoint_bytes
from trainer.config import CheckpointConfig, TrainConfig
from trainer.data.batch import MicroBatch
from trainer.data.buckets import PATCH, bucket_table
from trainer.data.loader import micro_batches
from trainer.data.training_data import TrainingData, open_data
from trainer.distributed import Ranks
from trainer.loss.flow_matching import noised, sample_noise, sample_timesteps, velocity
from trainer.loss.region_loss import error_map
from trainer.measures.memory import MOMENT_BYTES
from trainer.optimization.engine import Engine, build_engine
from trainer.optimization.kernels import check_kernels, prepare_blocks
from trainer.optimization.optimizers import check_optimizer
from trainer.stages import PatternCount
from trainer.validation.held_out import open_held_out
from trainer.validation.validate import Outcome, Validation
from unified_model.features import ReferenceLatents
from unified_model.loading import load_for_inference
from unified_model.model import UnifiedEditModel
from unified_model.placement import fetch_for_each_call
from unified_model.quantisation import Quantisation
from unified_model.quiet import quiet_libraries

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Session:
    """A run that is ready to step.

    Args:
        data: the samples, and their order.
        model: the whole model on this rank's device; its core is the engine's module.
        engine: the DeepSpeed engine.
        ema: the moving average, or None where the run keeps none.
        step: optimizer steps done.
        bad_samples: samples skipped so far, on all ranks.
        counts: what each pattern opened.
        core_parameters: parameters of the core, frozen ones and adapters too.
        marks: the files of the frozen weights by content; None on other ranks than the first.
        validation: what validates the run, or None where nothing does.
        cache: what of the samples is cached; None where caches are not to be used.
        last_validation: the figures of the last validation by name, `ema/loss` and so on; empty before the first.
        validated_at: the step of the last validation, or None before the first.
    """

    config: TrainConfig
    ranks: Ranks
    data: TrainingData
    model: UnifiedEditModel
    engine: Engine
    ema: ShardedEma | None
    step: int
    bad_samples: int
    counts: list[PatternCount]
    core_parameters: int
    marks: ModelMarks | None
    validation: Validation | None = None
    cache: TrainingCache | None = None
    last_validation: dict[str, float] = field(default_factory=dict)
    validated_at: int | None = None

    def batches(self) -> Iterator[MicroBatch]:
        """This rank's micro-batches from the next step to the end of the run."""
        model, ranks = self.model, self.ranks
        return micro_batches(
            self.data,
            self.config,
            model.processor,
            self.step,
            ranks.rank,
            ranks.world,
            model.takes_reference_latents,
            self.cache,
        )

    def errors(self, batch: MicroBatch) -> torch.Tensor:
        """The model's error on a micro-batch, with gradient: (B, 1, h, w) float32. Noise and timesteps follow from the
        seed and the samples' positions, so that neither resuming nor the number of ranks changes them."""
        config, device = self.config, self.ranks.device
        # Always a copy of torch's own making: memory from elsewhere is aligned otherwise in every run, and a CPU kernel
        # may round by alignment.
        if batch.latents is not None:
            latents = batch.latents.to(device, torch.float32, copy=True)
        else:
            latents = self.model.codec.encode(batch.target.to(device).float() / 127.5 - 1.0)
        if batch.features is not None:
            features = batch.features.to(device, copy=True)
        else:
            features = self.model.features(batch.inputs.to(device, copy=True))
        noise = sample_noise(config.seed, batch.positions, latents.shape[1:]).to(device)
        tokens = latents.shape[-2] * latents.shape[-1] // PATCH**2
        timesteps = sample_timesteps(config.seed, batch.positions, tokens, config.timestep).to(device)
        references = None
        if batch.reference_latents is not None and batch.reference_rows is not None:
            if len(batch.reference_rows):
                found = batch.reference_latents.to(device, torch.float32, copy=True)
                references = ReferenceLatents(found, batch.reference_rows.to(device))
        elif batch.references is not None and batch.reference_rows is not None:
            references = self.model.reference_latents(batch.references.to(device), batch.reference_rows.to(device))
        prediction = self.engine(noised(latents, noise, timesteps), timesteps, features, reference_latents=references)
        return error_map(prediction, velocity(latents, noise))

    def is_validation_due(self) -> bool:
        """Whether the run wants to be validated at its present step."""
        return self.validation is not None and self.validation.is_due(self.step)

    def next_validation(self) -> int | None:
        """The step of the next validation; None where there is none to come."""
        return None if self.validation is None else self.validation.next_after(self.step)

    def validate(self) -> Outcome | None:
        """Validate now, and keep the figures; None where nothing validates. A collective."""
        if self.validation is None:
            return None
        outcome = self.validation.run(self.engine, trainable(self.model.core), self.ema)
        self.last_validation, self.validated_at = dict(outcome.figures), self.step
        return outcome

    def is_best(self) -> bool:
        """Whether a validation at this very step found a better `checkpoints.best_metric` than any checkpoint has. A
        collective.

        Raises:
            ConfigError: the validation has no such figure.
        """
        config = self.config.checkpoints
        if config.best_metric is None or self.validated_at != self.step:
            return False
        return any(self.ranks.gather(self.ranks.together(lambda: self.ranks.is_first and self._is_better(config))))

    def _is_better(self, config: CheckpointConfig) -> bool:
        metric = str(config.best_metric)
        if metric not in self.last_validation:
            raise ConfigError(
                "checkpoints.best_metric",
                metric,
                "is none of the validation's figures",
                f"Known: {', '.join(sorted(self.last_validation))}.",
            )
        measured = checkpoint.metric_by_step(Path(self.config.output), metric)
        return best_step({**measured, self.step: self.last_validation[metric]}, config.best_is == "lower") == self.step

    def keys_digest(self, step: int) -> str:
        """16 hexadecimal digits of the keys of a step's global batch, in order; `step` counts from 0."""
        size = self.config.global_batch(self.ranks.world)
        keys = self.data.keys_at(range(step * size, (step + 1) * size))
        return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]

    def save(self) -> checkpoint.Saved:
        """Write a checkpoint. A collective.

        Raises:
            OutputError: it cannot be written; earlier ones stay.
        """
        batch = self.config.global_batch(self.ranks.world)
        model = self.ranks.together(lambda: self.marks.result() if self.marks is not None else {})
        progress = checkpoint.Progress(
            step=self.step,
            position=self.step * batch,
            global_batch=batch,
            bad_samples=self.bad_samples,
            ema_updates=self.ema.updates if self.ema else 0,
            ranks=self.ranks.world,
            samples=self.data.fingerprint,
            config=self.config.flat(),
            model=model,
            validation=self.last_validation if self.validated_at == self.step else {},
        )
        run = Path(self.config.output)
        return checkpoint.save(run, self.engine, self.ema, progress, self.ranks, self.config.checkpoints)


def build(config: TrainConfig, ranks: Ranks, start: run_folder.Start) -> Session:
    """Build a session, at the checkpoint that `start` names. A collective.

    Raises:
        EditmillError: the same on every rank.
    """
    torch.manual_seed(config.seed + ranks.rank)
    ranks.together(lambda: _check_machine(config, ranks))
    data = ranks.together(lambda: _samples(config, ranks, start))
    checks = config.validation
    held_out = None if checks is None else ranks.together(lambda: open_held_out(checks))
    model = ranks.together(lambda: _load_model(config, ranks.device))
    _place(model, config, ranks.device)
    counts = ranks.together(lambda: open_stage(model.core, config))
    total = sum(parameter.numel() for parameter in model.core.parameters())
    model.tower.eval()
    model.core.train()
    validation = None
    if checks is not None and held_out is not None:
        validation = Validation(held_out, config, checks, model, ranks)
    prepare_blocks(model.core.denoiser.transformer, config)
    cache = ranks.together(lambda: _cache(config, data, model))
    marks = ranks.together(lambda: _marks(config, start) if ranks.is_first else None)
    if start.checkpoint is not None:
        path = start.checkpoint
        ranks.together(lambda: checkpoint.load_core(path, model.core))
    ranks.together(lambda: _check_room(config, model, start) if ranks.is_first else None)
    engine = build_engine(model.core, config, ranks)
    ema = ShardedEma(trainable(model.core), ranks, config.ema) if config.averages else None
    session = Session(config, ranks, data, model, engine, ema, 0, 0, counts, total, marks, validation, cache)
    if start.checkpoint is not None:
        progress = ranks.together(lambda: checkpoint.load(path, engine, ema, ranks))
        session.step, session.bad_samples = progress.step, progress.bad_samples
    return session


def _samples(config: TrainConfig, ranks: Ranks, start: run_folder.Start) -> TrainingData:
    """The samples, once it is clear that a run which goes on finds those that it was begun with."""
    data = open_data(config, ranks.world)
    known = "" if start.checkpoint is None else checkpoint.read_progress(start.checkpoint).samples
    if known and known != data.fingerprint:
        raise ConfigError(
            "data",
            [folder for dataset in config.data.mixture for folder in dataset.shards],
            "hold other samples than when the run was begun, so that its position means nothing any more",
            "Bring the former shards back, or take another output folder.",
        )
    return data


def _check_machine(config: TrainConfig, ranks: Ranks) -> None:
    check_optimizer(config, ranks)
    check_kernels(config, ranks, DTYPES[config.engine.dtype])


def _cache(config: TrainConfig, data: TrainingData, model: UnifiedEditModel) -> TrainingCache | None:
    if config.data.cache == "off":
        return None
    text = model.text.clip is not None or model.text.t5 is not None
    needs = RunNeeds(config.model, model.takes_reference_latents, text, model.processor.prompt_version)
    return open_cache(config, data.index, needs)


def _marks(config: TrainConfig, start: run_folder.Start) -> ModelMarks:
    known = None if start.checkpoint is None else checkpoint.read_progress(start.checkpoint).model
    return ModelMarks(config.model, known)


def _check_room(config: TrainConfig, model: UnifiedEditModel, start: run_folder.Start) -> None:
    """Look that checkpoints and export will have room, before the first step."""
    run = Path(config.output)
    moving = sum(value.numel() for value in trainable(model.core).values())
    size = checkpoint_bytes(moving, MOMENT_BYTES[config.optimizer.name], config.averages)
    alone = config.adapts and config.lora.export == "adapter"
    exported = trainable(model.core).values() if alone else model.core.parameters()
    core = sum(value.numel() * value.element_size() for value in exported)
    there = len(checkpoint.complete_checkpoints(run))
    coming = -(-(config.steps - start.step) // config.checkpoints.every)
    kept = config.checkpoints.keep_last + (config.checkpoints.best_metric is not None)
    check_room(run, bytes_needed(size, core * (2 if config.averages else 1), there, coming, kept), size)


def _place(model: UnifiedEditModel, config: TrainConfig, device: torch.device) -> None:
    towers = (model.tower, model.text)
    for part in model.children():
        # ZeRO 3 cuts the core into pieces from host memory.
        stays = part is model.core and config.engine.zero_stage == 3
        if not stays and not (config.frozen.offload_towers and part in towers):
            part.to(device)
    if config.frozen.offload_towers:
        fetch_for_each_call(model.tower, device)
        for encoder in model.text.children():
            fetch_for_each_call(encoder, device)


def _load_model(config: TrainConfig, device: torch.device) -> UnifiedEditModel:
    quiet_libraries()
    quantisation = Quantisation(config.frozen.quantise_vlm, config.frozen.quantise_dit, str(device))
    model = load_for_inference(config.model, dtype=DTYPES[config.engine.dtype], quantisation=quantisation)
    if model.codec.stride != LATENT_STRIDE:
        raise ConfigError(
            "model",
            config.model,
            f"its VAE has the stride {model.codec.stride}",
            f"Use one with {LATENT_STRIDE}, by which masks are pooled.",
        )
    for bucket in bucket_table(config.data.resolution, config.data.buckets):
        if bucket.width % model.size_multiple or bucket.height % model.size_multiple:
            raise ConfigError(
                "model",
                config.model,
                f"takes sides that are multiples of {model.size_multiple}; the bucket {bucket.name} has "
                f"{bucket.width} x {bucket.height}",
                "Take buckets: square and a resolution that is one.",
            )
    return model
