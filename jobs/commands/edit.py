"""`editmill edit`: edit one image, or many, with a model."""

from __future__ import annotations

from pathlib import Path

from jobs.commands.edit_options import (
    Base,
    Batch,
    BatchSize,
    BitsChoice,
    Checkpoint,
    Device,
    Guidance,
    Height,
    Image,
    ImageGuidance,
    Instruction,
    Limit,
    OffloadChoice,
    OffloadOption,
    Output,
    QuantiseDit,
    QuantiseVlm,
    Seed,
    Shards,
    Steps,
    TextGuidance,
    Weights,
    Width,
)

SIDE_MULTIPLE = 16
"""The VAE's stride of 8 times the denoiser's patch of 2. The pipeline checks again, with the loaded model's own."""


def edit(
    checkpoint: Checkpoint,
    output: Output,
    image: Image = None,
    instruction: Instruction = None,
    batch: Batch = None,
    shards: Shards = None,
    batch_size: BatchSize = 1,
    limit: Limit = None,
    seed: Seed = 0,
    steps: Steps = 28,
    width: Width = None,
    height: Height = None,
    guidance: Guidance = 3.5,
    text_guidance: TextGuidance = 1.0,
    image_guidance: ImageGuidance = 1.0,
    weights: Weights = None,
    base: Base = None,
    device: Device = "auto",
    offload: OffloadOption = OffloadChoice.none,
    quantise_vlm: QuantiseVlm = BitsChoice.none,
    quantise_dit: QuantiseDit = BitsChoice.none,
) -> None:
    """Edit an image with a model, by an instruction in words; or many images, from a list or from packed shards.

    Reads a model folder or the export of a training run (a LoRA adapter too), and images; EXIF orientation is applied.
    On a GPU the model runs in bf16, on a CPU in float32.

    Of many images, writes a folder: the images, `outcomes.jsonl` with a line for each row (edited, or rejected with the
    reason) and `settings.json`. A row that cannot be edited never costs another. Started again, it makes only what is
    missing or has changed. Exit code 1: no row could be edited.

    Examples:

        editmill edit --checkpoint runs/first/export --image photo.jpg --instruction "Make the car red" --output red.png

        editmill edit --checkpoint runs/first/export --batch edits.jsonl --output edited/ --batch-size 4

        editmill edit --checkpoint runs/first/export --shards shards/held-out --limit 50 --output looked-at/
    """
    from jobs.commands.extras import require_model_libraries

    require_model_libraries()
    _check_side("--width", width)
    _check_side("--height", height)
    _one_kind(image, instruction, batch, shards)

    from jobs.editing.choice import ModelChoice
    from jobs.editing.many import edit_many
    from jobs.editing.rows import Sizing
    from jobs.editing.single import edit_one

    model = ModelChoice(
        checkpoint,
        None if weights is None else weights.value,
        base,
        device,
        offload.value,
        quantise_vlm.value,
        quantise_dit.value,
    )
    sizing = Sizing(seed, height, width)
    sampling = {
        "steps": steps, "guidance": guidance, "text_guidance": text_guidance, "image_guidance": image_guidance
    }  # fmt: skip
    if instruction is not None:
        edit_one(model, image or [], instruction, output, sizing, sampling)
    else:
        edit_many(model, batch, shards, output, sizing, sampling, batch_size, limit)


def _one_kind(image: list[Path] | None, instruction: str | None, batch: Path | None, shards: Path | None) -> None:
    from schemas.errors import ConfigError

    given = {"--instruction": instruction, "--batch": batch, "--shards": shards}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise ConfigError(
            "what to edit",
            chosen,
            "must be one of --instruction (with --image), --batch or --shards",
            "Give exactly one of them.",
        )
    if image and instruction is None:
        raise ConfigError("--image", [str(path) for path in image], f"does not go with {chosen[0]}", "Leave it out.")


def _check_side(option: str, side: int | None) -> None:
    from schemas.errors import ConfigError

    if side is not None and side % SIDE_MULTIPLE:
        near = max(1, round(side / SIDE_MULTIPLE)) * SIDE_MULTIPLE
        raise ConfigError(option, side, f"must be a multiple of {SIDE_MULTIPLE}", f"Say {near}.")
