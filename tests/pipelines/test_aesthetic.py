"""Aesthetic scores with a real CLIP, tiny and random, under heads of the published shapes; and a share of all rows."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.aesthetic import Aesthetic, AestheticConfig
from pipelines.aesthetic.head import is_on_hub, read_head
from pipelines.quantile.step import Quantile, QuantileConfig
from schemas.config import parse_config
from schemas.errors import ConfigError, InputError
from schemas.outcomes import OUTCOME
from schemas.records import IMAGE_RECORD, IMAGE_TYPE

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WIDTH = 24
MLP = (WIDTH, 1024, 128, 64, 16, 1)
"""The widths of the improved predictor, but for the embedding's."""


def mlp_state(seed: int = 0) -> dict[str, Any]:
    """As `sac+logos+ava1-l14-linearMSE.pth`: dropout takes the numbers between the layers."""
    generator = torch.Generator().manual_seed(seed)
    numbers = (0, 2, 4, 6, 7)
    state = {}
    for number, inputs, outputs in zip(numbers, MLP[:-1], MLP[1:], strict=True):
        state[f"layers.{number}.weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        state[f"layers.{number}.bias"] = torch.randn(outputs, generator=generator) / 10
    state["layers.7.bias"] += 5.0
    return state


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": 64, "max_position_embeddings": 16},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=WIDTH,
    )
    folder = tmp_path_factory.mktemp("clip")
    transformers.CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "small+mlp.pth"
    torch.save(mlp_state(), path)
    return path


def picture(seed: int, height: int = 40, width: int = 56) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def rows(*images: bytes | None) -> pa.Table:
    structs = [None if image is None else {"bytes": image, "path": "picture.png"} for image in images]
    keys = [f"{number:032x}" for number in range(len(images))]
    return pa.table({"key": keys, "url": keys, "image": pa.array(structs, IMAGE_TYPE)})


def step(clip: Path, head: Path, **values: Any) -> Aesthetic:
    values = {"model": str(clip), "head": str(head), "device": "cpu", **values}
    return Aesthetic(parse_config(AestheticConfig, values, "aesthetic"))


def expected(clip: Path, images: list[bytes], state: dict[str, Any]) -> list[float]:
    """The published recipe, with the whole CLIP model: embed, bring to length one, layer after layer."""
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(clip, backend="pil")
    decoded = [Image.open(io.BytesIO(image)).convert("RGB") for image in images]
    pixels = processor(decoded, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        values = model.visual_projection(pooled)
        values = values / values.norm(dim=-1, keepdim=True)
        for number in sorted({int(name.split(".")[1]) for name in state}):
            values = values @ state[f"layers.{number}.weight"].T + state[f"layers.{number}.bias"]
    return [float(value) for value in values[:, 0]]


def test_scores_are_those_of_the_published_recipe_whatever_the_batch(clip: Path, head: Path) -> None:
    images = [picture(seed, height, 48) for seed, height in enumerate((40, 64, 32, 90, 33))]
    table = rows(images[0], None, *images[1:3], b"no image", *images[3:])
    scoring = step(clip, head, batch_size=3)
    scoring.preflight()
    scoring.setup()
    result = scoring(table)
    assert result.rejected["reason"].to_pylist() == ["image_missing", "image_format_unknown"]
    np.testing.assert_allclose(result.kept["aesthetic"].to_numpy(), expected(clip, images, mlp_state()), rtol=1e-5)
    assert set(result.kept["aesthetic_scale"].to_pylist()) == {"laion_1_10"}
    assert set(result.kept["aesthetic_head"].to_pylist()) == {"small+mlp"}
    assert set(result.kept.column_names) <= set(IMAGE_RECORD.fields.names)
    one_by_one = step(clip, head, batch_size=1)(table)
    np.testing.assert_allclose(one_by_one.kept["aesthetic"], result.kept["aesthetic"], rtol=1e-5)


def test_a_threshold_keeps_and_says_what_it_measured(clip: Path, head: Path) -> None:
    images = [picture(seed) for seed in range(8)]
    scores = expected(clip, images, mlp_state())
    bound = float(np.median(scores))
    result = step(clip, head, min_aesthetic=bound)(rows(*images))
    assert result.kept["key"].to_pylist() == [f"{n:032x}" for n, score in enumerate(scores) if score >= bound]
    assert set(result.rejected["reason"].to_pylist()) == {"aesthetic_too_low"}
    evidence = json.loads(result.rejected["evidence"][0].as_py())
    assert evidence["aesthetic"] < bound and evidence["aesthetic_head"] == "small+mlp"
    OUTCOME.check(result.rejected)
    with pytest.raises(ConfigError, match="outside the declared scale laion_1_10"):
        step(clip, head, min_aesthetic=0.5)


def test_memory_that_does_not_hold_a_batch_halves_it(clip: Path, head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scoring = step(clip, head, batch_size=8)
    scoring.setup()
    scorer = scoring._scorer
    run: Callable[..., Any] = scorer._model.forward
    sizes: list[int] = []

    def cramped(pixel_values: Any) -> Any:
        sizes.append(len(pixel_values))
        if len(pixel_values) > 2:
            raise torch.OutOfMemoryError("full")
        return run(pixel_values=pixel_values)

    monkeypatch.setattr(scorer._model, "forward", cramped)
    images = [picture(seed) for seed in range(7)]
    result = scoring(rows(*images))
    np.testing.assert_allclose(result.kept["aesthetic"].to_numpy(), expected(clip, images, mlp_state()), rtol=1e-5)
    assert sizes == [7, 4, 2, 2, 2, 1]


def test_the_linear_head_and_safetensors_are_read(clip: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {"weight": torch.full((1, WIDTH), 0.5), "bias": torch.tensor([5.0])}
    torch.save(state, tmp_path / "sa_0_4.pth")
    save_file(state, tmp_path / "sa_0_4.safetensors")
    one, two = (step(clip, tmp_path / f"sa_0_4.{kind}")(rows(picture(0))) for kind in ("pth", "safetensors"))
    assert one.kept.equals(two.kept)
    deep = read_head_of(mlp_state(), tmp_path)
    assert [tuple(weight.shape) for weight, _ in deep.layers] == list(zip(MLP[1:], MLP[:-1], strict=True))


def read_head_of(state: Any, folder: Path) -> Any:
    torch.save(state, folder / "head.pth")
    return read_head(folder / "head.pth")


def test_what_is_no_head_is_refused_before_any_image(clip: Path, head: Path, tmp_path: Path) -> None:
    good = mlp_state()
    wrong: list[tuple[Any, str]] = [
        ({**good, "layers.7.weight": torch.zeros(2, 16), "layers.7.bias": torch.zeros(2)}, "must have one output"),
        ({**good, "layers.4.weight": torch.zeros(64, 9)}, "do not follow"),
        ({"layers.0.weight": torch.zeros(1, 4)}, "more or less than linear layers"),
        ([1, 2], "holds no state dict"),
    ]
    for state, message in wrong:
        with pytest.raises(ConfigError, match=message):
            read_head_of(state, tmp_path)
    (tmp_path / "head.pth").write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(InputError, match="cannot be read"):
        read_head(tmp_path / "head.pth")
    narrow = {"weight": torch.zeros(1, WIDTH + 1), "bias": torch.zeros(1)}
    torch.save(narrow, tmp_path / "narrow.pth")
    with pytest.raises(ConfigError, match=f"takes embeddings of length {WIDTH + 1}, the model .* gives {WIDTH}"):
        step(clip, tmp_path / "narrow.pth").preflight()
    with pytest.raises(InputError, match="does not exist"):
        step(clip, tmp_path / "none.pth").preflight()
    with pytest.raises(InputError, match=r"no readable config\.json"):
        step(tmp_path, head).preflight()
    partial = tmp_path / "partial"
    partial.mkdir()
    tower = transformers.CLIPModel.from_pretrained(clip)
    tower.save_pretrained(partial, state_dict={k: v for k, v in tower.state_dict().items() if "visual" not in k})
    with pytest.raises(InputError, match="lacks weights of the vision tower"):
        step(partial, head).setup()
    assert is_on_hub("owner/name/head.pth") and not is_on_hub(str(head))


def test_identity_follows_the_head_and_not_its_place(clip: Path, head: Path, tmp_path: Path) -> None:
    moved = tmp_path / head.name
    moved.write_bytes(head.read_bytes())
    assert step(clip, moved).fingerprint() == step(clip, head, device="auto").fingerprint()
    torch.save(mlp_state(1), moved)
    assert step(clip, moved).fingerprint() != step(clip, head).fingerprint()
    assert pickle.loads(pickle.dumps(step(clip, head))).fingerprint() == step(clip, head).fingerprint()


@pytest.mark.parametrize(
    ("share", "keep", "kept"), [(0.2, "highest", [1, 5]), (0.5, "lowest", [0, 2, 3, 4]), (1, "lowest", range(6))]
)
def test_the_share_is_of_all_rows_and_equal_values_share_a_fate(share: float, keep: str, kept: list[int]) -> None:
    values = [1.0, 9.0, 3.0, 3.0, 2.0, 9.0, None, float("nan")]
    table = pa.table({"key": [f"{n:032x}" for n in range(8)], "aesthetic": pa.array(values, pa.float32())})
    quantile = Quantile(parse_config(QuantileConfig, {"share": share, "keep": keep}, "quantile"))
    halves = [table.slice(0, 5), table.slice(5)]
    for parts in (halves, halves[::-1]):
        decision = quantile.decide(pa.concat_tables([quantile.survey(part) for part in parts]))
        results = [quantile.decided(lambda: decision)(part) for part in halves]  # noqa: B023
        assert [key for result in results for key in result.kept["key"].to_pylist()] == [f"{n:032x}" for n in kept]
        reasons = [reason for result in results for reason in result.rejected["reason"].to_pylist()]
        assert reasons.count("aesthetic_missing") == 2
        assert reasons.count("aesthetic_outside_share") == 6 - len(kept)
