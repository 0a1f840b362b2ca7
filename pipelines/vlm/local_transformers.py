"""Replies from a Qwen2.5-VL model run by transformers in this process. Torch is imported in `setup`, not before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.vlm.backend import Reply, Request
from pipelines.vlm.config import GenerationConfig, TransformersConfig
from pipelines.vlm.images import shown_image
from schemas.errors import ConfigError, InputError, RowRejected

_MODEL_TYPE = "qwen2_5_vl"


class LocalTransformers:
    """A model in this process, asked `batch_size` questions at a time."""

    def __init__(self, config: TransformersConfig, generation: GenerationConfig) -> None:
        self._config = config
        self._generation = generation
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

    def ask(self, requests: Sequence[Request]) -> list[Reply | RowRejected]:
        """As `VLMBackend.ask`."""
        if self._model is None:
            self.setup()
        results: list[Reply | RowRejected] = []
        size = self._config.batch_size
        for start in range(0, len(requests), size):
            results += self._ask_batch(requests[start : start + size])
        return results

    def _ask_batch(self, requests: Sequence[Request]) -> list[Reply | RowRejected]:
        rejected: dict[int, RowRejected] = {}
        texts: list[str] = []
        shown: list[Any] = []
        for number, request in enumerate(requests):
            try:
                images = [shown_image(image.to_pybytes(), self._generation.max_side) for image in request.images]
            except RowRejected as rejection:
                rejected[number] = rejection
                continue
            shown += [Image.fromarray(image) for image in images]
            texts.append(self._text(request))
        replies = iter(self._generate(texts, shown) if texts else [])
        return [rejected[number] if number in rejected else next(replies) for number in range(len(requests))]

    def _text(self, request: Request) -> str:
        """The request as the model's chat template writes it, with a placeholder for each image."""
        system = [{"role": "system", "content": [{"type": "text", "text": request.system}]}] if request.system else []
        parts = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in request.parts
        ]
        messages = [*system, {"role": "user", "content": parts}]
        return str(self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def _generate(self, texts: list[str], images: list[Any]) -> list[Reply]:
        import torch

        # The whole batch goes on, mm_token_type_ids included: without them M-RoPE falls back to other positions.
        batch = self._processor(
            text=texts,
            images=images,
            padding=True,
            return_tensors="pt",
            input_data_format="channels_last",
        )
        batch = batch.to(self._device, dtype=self._model.dtype)
        temperature = self._generation.temperature
        sampling = {"do_sample": True, "temperature": temperature} if temperature else _GREEDY
        with torch.inference_mode():
            output = self._model.generate(**batch, max_new_tokens=self._generation.max_new_tokens, **sampling)
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
