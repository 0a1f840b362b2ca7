"""Captions from a Qwen2.5-VL model run by transformers in this process. Torch is imported in `setup`, not before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from pipelines.recaption.backend import Reply
from pipelines.recaption.config import RecaptionConfig, TransformersConfig
from pipelines.recaption.images import shown_image
from pipelines.recaption.prompt import PromptFile
from schemas.errors import ConfigError, InputError, RowRejected

_MODEL_TYPE = "qwen2_5_vl"


class LocalTransformers:
    """A model in this process, asked for `batch_size` images at a time."""

    def __init__(self, config: TransformersConfig, recaption: RecaptionConfig) -> None:
        self._config = config
        self._recaption = recaption
        self._model: Any = None
        self._processor: Any = None
        self._device = ""

    def preflight(self) -> None:
        """Look for torch and transformers, and for a model of the right type in the folder."""
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                raise InputError(
                    "backend.kind",
                    "transformers",
                    f"needs the package {package}",
                    "In the clone, run pip install '.[vlm]'.",
                )
        folder = Path(self._config.model)
        if folder.is_dir():
            try:
                model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
            except (OSError, ValueError, AttributeError) as error:
                raise InputError(
                    "backend.model", str(folder), f"has no readable config.json ({error})", "Name a model's folder."
                ) from error
        else:
            model_type = self._model_type_on_hub()
        if model_type != _MODEL_TYPE:
            raise ConfigError(
                "backend.model",
                f"{self._config.model} ({model_type})",
                f"must be a {_MODEL_TYPE} model",
                "Serve other models behind an OpenAI-compatible endpoint, and use backend kind openai.",
            )

    def setup(self) -> None:
        """Load the model, its tokenizer and its image processor.

        Raises:
            InputError: they cannot be loaded.
        """
        import torch
        from transformers import AutoModelForImageTextToText

        wanted = self._config.device
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
        try:
            model = AutoModelForImageTextToText.from_pretrained(self._config.model, dtype=self._config.dtype)
            self._processor = _load_image_processor(self._config.model)
        except (OSError, ValueError) as error:
            raise InputError(
                "backend.model", self._config.model, f"cannot be loaded ({error})", "Name a whole model's folder."
            ) from error
        self._model = model.to(self._device).eval()

    def describe(self, images: Sequence[pa.Buffer], prompt: PromptFile) -> list[Reply | RowRejected]:
        """As `CaptionBackend.describe`."""
        if self._model is None:
            self.setup()
        results: list[Reply | RowRejected] = []
        size = self._config.batch_size
        for start in range(0, len(images), size):
            results += self._describe_batch(images[start : start + size], prompt)
        return results

    def _describe_batch(self, images: Sequence[pa.Buffer], prompt: PromptFile) -> list[Reply | RowRejected]:
        results: list[Reply | RowRejected | None] = []
        shown: list[Any] = []
        for image in images:
            try:
                shown.append(Image.fromarray(shown_image(image.to_pybytes(), self._recaption.max_side)))
                results.append(None)
            except RowRejected as rejection:
                results.append(rejection)
        replies = iter(self._generate(shown, prompt) if shown else [])
        return [next(replies) if result is None else result for result in results]

    def _generate(self, images: list[Any], prompt: PromptFile) -> list[Reply]:
        import torch

        system = [{"role": "system", "content": [{"type": "text", "text": prompt.system}]}] if prompt.system else []
        question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt.user}]}
        text = self._processor.apply_chat_template([*system, question], add_generation_prompt=True, tokenize=False)
        # The whole batch goes on, mm_token_type_ids included: without them M-RoPE falls back to other positions.
        batch = self._processor(
            text=[text] * len(images),
            images=images,
            padding=True,
            return_tensors="pt",
            input_data_format="channels_last",
        )
        batch = batch.to(self._device, dtype=self._model.dtype)
        temperature = self._recaption.temperature
        sampling = {"do_sample": True, "temperature": temperature} if temperature else _GREEDY
        with torch.inference_mode():
            output = self._model.generate(**batch, max_new_tokens=self._recaption.max_new_tokens, **sampling)
        new_tokens = output[:, batch["input_ids"].shape[1] :].tolist()
        return [self._reply(tokens) for tokens in new_tokens]

    def _reply(self, tokens: list[int]) -> Reply:
        ends = self._model.generation_config.eos_token_id
        end_tokens = set(ends) if isinstance(ends, list) else {ends}
        finished = any(token in end_tokens for token in tokens)
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return Reply(text, "stop" if finished else "length")

    def _model_type_on_hub(self) -> str:
        from transformers import AutoConfig

        try:
            return str(AutoConfig.from_pretrained(self._config.model).model_type)
        except (OSError, ValueError) as error:
            raise InputError(
                "backend.model",
                self._config.model,
                "is neither a folder nor a model that the hub gives",
                "Check the path or the name, and the network.",
            ) from error


# The release's generation settings hold sampling values, which greedy decoding would warn about.
_GREEDY: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def _load_image_processor(model: str) -> Any:
    """Qwen2.5-VL's processor for images only: the library's own insists on videos too, which need torchvision."""
    from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLProcessor
    from transformers.processing_utils import ProcessorMixin

    class ImageOnlyProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
        def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None) -> None:
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    image_processor = AutoImageProcessor.from_pretrained(model, backend="pil")
    return ImageOnlyProcessor(image_processor, tokenizer, tokenizer.chat_template)
