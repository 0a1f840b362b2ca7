"""Overfitting one pair: does the edited image show the edit, and do bfloat16 and float32 learn alike?

    python benchmarks/overfit.py                                   # about two minutes on two cores
    python benchmarks/overfit.py --against cpu/losses.json         # on a GPU, against the losses of a CPU

One photograph and the same with a disc painted onto it are the only pair, told in eight wordings that make one batch.
The tiny model trains on it twice, in float32 and in bfloat16, and then edits the photograph. Printed: both loss curves
and the largest difference of their averages over ten steps, and for each edited image how far it is from the target
inside the disc and outside. `OUT/overfit.png` has the pictures; the tiny autoencoder blurs, so that the target through
it is the best there could be. Exits with 1 where the edit does
not show, or where two curves differ by more than 5 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image

from pipelines.pack.config import PackConfig
from pipelines.pack.job import pack
from pipelines.synthesis.photographs import load_photographs
from schemas.config import parse_config
from schemas.images import encode_mask
from schemas.keys import pair_key
from schemas.records import EDIT_SAMPLE
from trainer.config import TrainConfig
from trainer.train import train
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.tiny import build_tiny

SIDE = 64
COLOUR = (40, 70, 235)
WORDINGS = [
    f"{verb} a {adjective} disc" for verb in ("paint", "draw", "put", "add") for adjective in ("blue", "bright blue")
]
AVERAGED = 10
TOLERANCE = 0.05
"""Largest relative difference of two loss curves' averages over ten steps. The noise of a step is the same in both."""
PROVEN = 0.5
"""The edit shows where less than this share of the distance from the photograph to the target is left."""

Picture = npt.NDArray[np.uint8]


def pair() -> tuple[Picture, Picture, npt.NDArray[np.bool_]]:
    """The photograph, the photograph with a disc, and where the disc is."""
    (photograph,) = [one for one in load_photographs() if one.name == "astronaut"]
    before = cv2.resize(photograph.pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = (rows - 46) ** 2 + (columns - 20) ** 2 < 13**2
    after = before.copy()
    after[disc] = COLOUR
    return before, after, disc


def pack_pair(folder: Path, before: Picture, after: Picture, disc: npt.NDArray[np.bool_]) -> Path:
    """One packed sample for each wording."""
    reference, target = (cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in (before, after))
    rows = [
        {
            "key": pair_key([reference], target, wording),
            "references": [{"bytes": reference, "path": "before.png"}],
            "target": {"bytes": target, "path": "after.png"},
            "instruction": wording,
            "mask": {"bytes": encode_mask(disc), "path": None},
            "mask_status": "ok",
            "edited_fraction": float(disc.mean()),
            "width": SIDE,
            "height": SIDE,
            "mask_recipe": "declared",
            "mask_recipe_version": 1,
            "mask_parameters": "{}",
        }
        for wording in WORDINGS
    ]
    schema = pa.schema([field.with_nullable(True) for field in EDIT_SAMPLE.fields])
    pack([lambda: pa.Table.from_pylist(rows, schema=schema)], PackConfig(formats=("webdataset",)), folder)
    return folder


def config(folder: Path, dtype: str, steps: int) -> TrainConfig:
    """A run over the pair in which all of the random model learns."""
    values: dict[str, Any] = {
        "model": str(folder / "model"),
        "output": str(folder / dtype),
        "stage": "full",
        "data": {"shards": [str(folder / "shards")], "resolution": SIDE},
        "steps": steps,
        "batch_size": len(WORDINGS),
        "optimizer": {
            "learning_rate": 6e-3, "warmup_steps": 10, "schedule": "cosine", "final_fraction": 0.1,
        },
        "engine": {"zero_stage": 2, "dtype": dtype},
        "ema": {"enabled": False},
        "checkpoints": {"every": steps, "keep_last": 1},
        "logging": {"every": 20},
    }  # fmt: skip
    return parse_config(TrainConfig, values, "overfit")


def learn(folder: Path, dtype: str, steps: int) -> list[float]:
    """Train; the loss of each step."""
    losses: list[float] = []
    train(config(folder, dtype, steps), on_step=lambda record: losses.append(record["loss"]), restart=True)
    return losses


def left(output: Picture, before: Picture, after: Picture, where: npt.NDArray[np.bool_]) -> float:
    """Mean distance of the output to the target in a region, as a share of the photograph's own to it in the disc."""
    whole = np.abs(before.astype(float) - after)[(before != after).any(axis=2)].mean()
    return float(np.abs(output.astype(float) - after)[where].mean() / whole)


def through_vae(model: Path, image: Picture) -> Picture:
    """The image encoded and decoded by a model's autoencoder."""
    codec = UnifiedEditModel.from_pretrained(model).codec
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1.0
    with torch.no_grad():
        decoded = codec.decode(codec.encode(pixels))[0]
    return ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def gap(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference of two curves' running averages."""
    averaged = [np.convolve(curve, np.ones(AVERAGED) / AVERAGED, "valid") for curve in (ours, theirs)]
    return float(np.max(np.abs(averaged[0] - averaged[1]) / averaged[1]))


def main() -> int:
    """Run it, print the figures, write the picture; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, help="folder for shards, model, runs, losses.json and overfit.png")
    parser.add_argument("--against", type=Path, help="losses.json of another machine, to compare with")
    options = parser.parse_args()
    folder: Path = options.out or Path(mkdtemp(prefix="overfit-"))
    before, after, disc = pair()
    pack_pair(folder / "shards", before, after, disc)
    build_tiny(photographs=[before, after]).save_pretrained(folder / "model")

    losses = {dtype: learn(folder, dtype, options.steps) for dtype in ("float32", "bfloat16")}
    (folder / "losses.json").write_text(json.dumps(losses))
    print("\n step     float32    bfloat16")
    for step in range(0, options.steps, max(1, options.steps // 10)):
        print(f"{step + 1:5} {losses['float32'][step]:11.4f} {losses['bfloat16'][step]:11.4f}")
    gaps = {"bfloat16 from float32": gap(losses["bfloat16"], losses["float32"])}
    if options.against is not None:
        other = json.loads(options.against.read_text())
        gaps |= {f"{dtype} from {options.against}": gap(losses[dtype], other[dtype]) for dtype in losses}
    for name, value in gaps.items():
        print(f"{name}: at most {100 * value:.2f} % apart, averaged over {AVERAGED} steps")

    panels, shows = [before, after, through_vae(folder / "model", after)], []
    for dtype in losses:
        pipeline = UnifiedEditPipeline.from_pretrained(folder / dtype / "export")
        output = pipeline(WORDINGS[0], [before], height=SIDE, width=SIDE, steps=20, seed=0)
        panels.append(output)
        inside, outside = left(output, before, after, disc), left(output, before, after, ~disc)
        shows.append(inside < PROVEN)
        print(f"{dtype}: inside the disc {100 * inside:.0f} % of the way to the target is left; outside, the image is "
              f"{100 * outside:.0f} % of that way off")  # fmt: skip
    board = np.concatenate([np.repeat(np.repeat(panel, 3, axis=0), 3, axis=1) for panel in panels], axis=1)
    Image.fromarray(board).save(folder / "overfit.png")
    print(f"photograph, target, target through the autoencoder, float32, bfloat16: {folder / 'overfit.png'}")
    return 0 if all(shows) and max(gaps.values()) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
