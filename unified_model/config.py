"""Where the parts of a model come from."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from schemas.config import Config
from unified_model.card import OPTIONAL_PARTS, PARTS, read_card
from unified_model.prompt import PROMPT_VERSION, PROMPTS


class UnifiedModelConfig(Config):
    """Components of a model, each a local folder, a hub name ("owner/name") or a subfolder of one
    ("owner/name/subfolder")."""

    vlm: str
    """Qwen2.5-VL ("Qwen/Qwen2.5-VL-7B-Instruct")."""

    siglip: str
    """Fixed-resolution SigLIP or SigLIP2 vision tower ("google/siglip2-so400m-patch16-512")."""

    transformer: str
    """FLUX transformer ("black-forest-labs/FLUX.1-dev/transformer")."""

    vae: str
    """AutoencoderKL ("black-forest-labs/FLUX.1-dev/vae")."""

    scheduler: str | None = None
    """FlowMatchEulerDiscreteScheduler ("black-forest-labs/FLUX.1-dev/scheduler"); None takes FLUX.1-dev's values."""

    processor: str | None = None
    """Tokenizer and image processor of the VLM; None takes those in `vlm`."""

    siglip_processor: str | None = None
    """Image processor of SigLIP; None takes the one in `siglip`."""

    clip: str | None = None
    """CLIP text encoder ("black-forest-labs/FLUX.1-dev/text_encoder"), whose pooled instruction then conditions the
    denoiser. None, as in the release's training, conditions it on the pooled vector that the conditioner holds."""

    clip_tokenizer: str | None = None
    """Tokenizer of CLIP ("black-forest-labs/FLUX.1-dev/tokenizer"); None takes the one in `clip`."""

    t5: str | None = None
    """T5 encoder ("black-forest-labs/FLUX.1-dev/text_encoder_2"), whose tokens then join the context. None, as in the
    release's training, joins none."""

    t5_tokenizer: str | None = None
    """Tokenizer of T5 ("black-forest-labs/FLUX.1-dev/tokenizer_2"); None takes the one in `t5`."""

    t5_length: int = Field(default=512, ge=1)
    """Tokens that an instruction is cut or padded to for T5: 512 for FLUX.1-dev, 256 for FLUX.1-schnell and for the
    release's inference."""

    takes_reference_latents: bool = False
    """Whether the denoiser sees the references' latents beside the noisy ones, as FLUX.1 Kontext does."""

    prompt_version: int = PROMPT_VERSION
    """Version of the prompt that the model hears, one of `unified_model.prompt.PROMPTS`: 1, or 2 for weights that were
    trained as UniWorld-V1's."""

    conditioner: str | None = None
    """Saved conditioner; None makes a fresh one of `conditioner_kind`."""

    conditioner_kind: str = "mlp"
    """Name of the conditioner to make where none was saved."""

    conditioner_seed: int = Field(default=0, ge=0)
    """Seed of a fresh conditioner's weights."""

    min_pixels: int | None = Field(default=56 * 56, ge=28 * 28)
    """Least area of a reference as the VLM sees it, in pixels; smaller ones are enlarged. None keeps what was saved."""

    max_pixels: int | None = Field(default=448 * 448, ge=28 * 28)
    """Largest area of a reference as the VLM sees it, in pixels; 448 * 448 is 256 tokens. None keeps what was saved."""

    @field_validator("prompt_version")
    @classmethod
    def _known_prompt(cls, version: int) -> int:
        if version not in PROMPTS:
            raise ValueError(f"must be one of {sorted(PROMPTS)}")
        return version

    @model_validator(mode="after")
    def _bounds_in_order(self) -> UnifiedModelConfig:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) must not exceed max_pixels ({self.max_pixels})")
        return self

    @classmethod
    def of_folder(cls, folder: Path) -> UnifiedModelConfig:
        """The components of a saved model, with the pixel bounds and the properties it was saved with.

        Raises:
            InputError: there is no card, or a part is missing.
        """
        card = read_card(folder)
        places = {part: str(folder / part) for part in (*PARTS, *OPTIONAL_PARTS) if part in card.parts}
        kept = {"min_pixels": None, "max_pixels": None}
        properties = {
            "t5_length": card.t5_length,
            "takes_reference_latents": card.takes_reference_latents,
            "prompt_version": card.prompt_version,
        }
        return cls.model_validate(places | kept | properties)
