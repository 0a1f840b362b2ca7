"""The stage `lora`: what trains, what is exported, and that it resumes and averages as any stage does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from peft import PeftModel
from safetensors.torch import load_file
from training_data import config_for

from schemas.errors import ConfigError, InputError
from trainer.adapters import open_stage
from trainer.config import TrainConfig
from trainer.train import train
from unified_model.checkpoint import checkpoint_folder, lineage_of
from unified_model.conditioners import MlpConditioner, Widths
from unified_model.core import EditCore
from unified_model.denoiser import FluxDenoiser
from unified_model.export import export_model
from unified_model.model import UnifiedEditModel
from unified_model.pipeline import UnifiedEditPipeline
from unified_model.tiny import build_tiny_flux

REFERENCE = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)


def lora_config(folder: Path = Path("unused"), **lora: Any) -> TrainConfig:
    return config_for(folder, folder, folder, stage="lora", lora=lora)


def tiny_core() -> EditCore:
    return EditCore(MlpConditioner.fresh(Widths(64, 48, 64, 32)), FluxDenoiser(build_tiny_flux()))


def trainable(core: EditCore) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in core.named_parameters() if value.requires_grad}


def edited(path: Path, **options: Any) -> np.ndarray:
    pipeline = UnifiedEditPipeline.from_pretrained(path, **options)
    return pipeline("make it red", [REFERENCE], height=32, width=32, steps=2)


def same_edit(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """To rounding: weights that were merged after loading are aligned otherwise than those of a file."""
    return int(np.abs(ours.astype(int) - theirs).max()) <= 1


@pytest.mark.slow
def test_adapters_on_the_linear_layers_of_edit_at_release_size() -> None:
    with torch.device("meta"):
        conditioner = MlpConditioner.fresh(Widths(3584, 1152, 4096, 768))
        core = EditCore(conditioner, FluxDenoiser(FluxTransformer2DModel(guidance_embeds=True)))
    counts = open_stage(core, lora_config(rank=32))
    # rank x (inputs + outputs): the connectors, then q, k, v, out and modulation of 19 blocks, then q, k, v and
    # modulation of 38.
    connectors = 2 * 12288 + 3584 + 4096 + 2 * 12288 + 1152 + 4096
    double = 19 * (4 * (3072 + 3072) + 3072 + 6 * 3072)
    single = 38 * (3 * (3072 + 3072) + 3072 + 3 * 3072)
    assert sum(count.parameters for count in counts) == 32 * (connectors + double + single) == 67_358_720
    assert sum(value.numel() for value in trainable(core).values()) == 67_358_720
    assert {value.device.type for value in core.parameters()} == {"meta"}


@pytest.mark.parametrize("connectors", ["adapted", "full", "frozen"])
def test_the_connectors_by_choice(connectors: str) -> None:
    core = tiny_core()
    counts = open_stage(core, lora_config(connectors=connectors))
    names = {name for name in trainable(core) if name.startswith("conditioner.")}
    assert {"lora" in name for name in names} == {"adapted": {True}, "full": {False}, "frozen": set()}[connectors]
    assert sum(count.parameters for count in counts) == sum(value.numel() for value in trainable(core).values())


def test_wrong_modules_are_refused_before_anything_changes() -> None:
    core = tiny_core()
    before = list(core.state_dict())
    for modules in (
        ["conditioner.vlm_conector"],
        ["conditioner"],
        ["denoiser.transformer.transformer_blocks.*.attn.norm_q"],
    ):
        with pytest.raises(ConfigError, match=r"trainable|lora\.modules"):
            open_stage(core, lora_config(modules=modules))
    assert list(core.state_dict()) == before
    with pytest.raises(ConfigError, match=r"lora\.modules"):
        config_for(Path("x"), Path("x"), Path("x"), stage="lora", trainable=["conditioner"])


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_lora_resumes_and_its_two_exports_edit_alike(
    tiny_model: Path, shards: Path, tmp_path: Path, stage: int
) -> None:
    """Adapters at every ZeRO stage, with dropout, broken off and resumed; exported unmerged and merged."""
    changes: dict[str, Any] = {
        "stage": "lora", "steps": 4, "checkpoints": {"every": 2}, "engine": {"zero_stage": stage},
        "optimizer": {"learning_rate": 0.02}, "ema": {"decay": 0.5},
    }  # fmt: skip
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1, "connectors": "full" if stage == 1 else "adapted"}
    merged = config_for(tiny_model, shards, tmp_path / "merged", lora=lora | {"export": "merged"}, **changes)
    train(merged)
    adapter = config_for(tiny_model, shards, tmp_path / "adapter", lora=lora, **changes)

    class Killed(BaseException):
        pass

    def die(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise Killed

    with pytest.raises(Killed):
        train(adapter, on_step=die)
    assert train(adapter).finished
    folder = Path(adapter.output) / "export"
    start = edited(tiny_model)
    for which in ("raw", "ema"):
        whole = Path(merged.output) / "export" / which
        assert not same_edit(edited(whole), start)
        assert same_edit(edited(whole), edited(folder / which))
    raw, average = (load_file(folder / which / "adapter" / "adapter_model.safetensors") for which in ("raw", "ema"))
    assert not any(torch.equal(raw[name], average[name]) for name in raw if "lora_B" in name)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved adapter that was not trained, but is no longer zero."""
    model = UnifiedEditModel.from_pretrained(tiny_model)
    open_stage(model.core, lora_config(rank=4, alpha=6))
    with torch.no_grad():
        for name, value in trainable(model.core).items():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) * 0.05)
    folder = tmp_path_factory.mktemp("lora")
    model.save_adapter(folder / "adapter")
    model.save_core(folder / "merged")
    return folder / "adapter"


def test_the_adapter_is_read_by_peft_and_by_diffusers(tiny_model: Path, adapter: Path) -> None:
    def output(transformer: torch.nn.Module) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            return transformer(
                hidden_states=torch.randn(1, 4, 64, generator=generator),
                encoder_hidden_states=torch.randn(1, 5, 64, generator=generator),
                pooled_projections=torch.zeros(1, 32),
                timestep=torch.tensor([0.4]),
                img_ids=torch.zeros(4, 3),
                txt_ids=torch.zeros(5, 3),
                return_dict=False,
            )[0]

    plain, ours, theirs = (FluxTransformer2DModel.from_pretrained(tiny_model / "transformer") for _ in range(3))
    expected = output(FluxTransformer2DModel.from_pretrained(adapter.with_name("merged") / "transformer"))
    assert not torch.allclose(output(plain), expected, atol=1e-3)
    theirs.load_lora_adapter(adapter / "adapter", weight_name="adapter_model.safetensors", prefix="base_model.model")
    torch.testing.assert_close(output(theirs), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        output(PeftModel.from_pretrained(ours, adapter / "adapter")), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_an_adapter_folder_edits_as_the_merged_one(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    merged = edited(adapter.with_name("merged"))
    assert same_edit(edited(adapter), merged)
    assert same_edit(edited(adapter, base=tiny_model), merged)
    assert lineage_of(checkpoint_folder(adapter)).transformer == tiny_model
    assert same_edit(edited(export_model(adapter, tmp_path / "whole")), merged)
    other = UnifiedEditModel.from_pretrained(tiny_model)
    other.save_core(tmp_path / "core")
    with pytest.raises(ConfigError, match="adapters"):
        other.save_adapter(tmp_path / "none")
    (adapter / "adapter" / "adapter_config.json").rename(tmp_path / "kept.json")
    try:
        with pytest.raises(InputError, match="adapter"):
            edited(adapter)
    finally:
        (tmp_path / "kept.json").rename(adapter / "adapter" / "adapter_config.json")
