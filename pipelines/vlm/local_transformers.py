"""Replies from a Qwen2.5-VL model run by transformers in this process. Torch is imported in `setup`, not before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.vlm.backend import NOBODY, Reply, Request, Watcher
from pipelines.vlm.config import GenerationConfig, TransformersConfig
from pipelines.vlm.images import shown_image
from pipelines.vlm.revision import model_revision
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
            model = AutoModelForImageTextToText.from_pretrained(
                self._config.model, dtype=self._config.dtype, revision=self._config.revision or None
            )
            self._processor = _load_image_processor(self._config.model, self._config.revision or None)
        except (OSError, ValueError) as error:
            raise InputError(
                "backend.model", self._config.model, f"cannot be loaded ({error})", "Name a whole model's folder."
            ) from error
        self._model = model.to(self._device).eval()

    def revision(self) -> str:
        """The config's, or a hash of the model's folder."""
        return model_revision(self._config.model, self._config.revision)

    def ask(self, requests: Sequence[Request], watcher: Watcher = NOBODY) -> list[Reply | RowRejected]:
        """As `VLMBackend.ask`. A batch that the GPU has no room for is halved.

        Raises:
            EditmillError: of the watcher.
        """
        if self._model is None:
            self.setup()
        results: list[Reply | RowRejected] = []
        size = self._config.batch_size
        for start in range(0, len(requests), size):
            watcher.admit()
            replies = self._ask_halving(requests[start : start + size])
            for place, reply in enumerate(replies, start):
                if isinstance(reply, Reply):
                    watcher.arrived(place, reply)
            results += replies
        return results

    def _ask_halving(self, requests: Sequence[Request]) -> list[Reply | RowRejected]:
        import torch

        try:
            return self._ask_batch(requests)
        except torch.OutOfMemoryError:
            if len(requests) == 1:
                return [RowRejected("out_of_memory", "the GPU has no room for this one image and its reply")]
        torch.cuda.empty_cache()
        half = len(requests) // 2
        return self._ask_halving(requests[:half]) + self._ask_halving(requests[half:])

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
        for reply, answer in request.turns:
            for role, text in (("assistant", reply), ("user", answer)):
                messages.append({"role": role, "content": [{"type": "text", "text": text}]})
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
        prompts = batch["attention_mask"].sum(dim=1).tolist()
        return [self._reply(tokens, prompt) for tokens, prompt in zip(new_tokens, prompts, strict=True)]

    def _reply(self, tokens: list[int], prompt_tokens: int) -> Reply:
        ends = self._model.generation_config.eos_token_id
        end_tokens = set(ends) if isinstance(ends, list) else {ends}
        written = next((place + 1 for place, token in enumerate(tokens) if token in end_tokens), None)
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        if written is None:
            return Reply(text, "length", prompt_tokens, len(tokens))
        return Reply(text, "stop", prompt_tokens, written)

    def _model_type_on_hub(self) -> str:
        from transformers import AutoConfig

        try:
            return str(
                AutoConfig.from_pretrained(self._config.model, revision=self._config.revision or None).model_type
            )
        except (OSError, ValueError) as error:
            raise InputError(
                "backend.model",
                self._config.model,
                "is neither a folder nor a model that the hub gives",
                "Check the path or the name, and the network.",
            ) from error


# The release's generation settings hold sampling values, which greedy decoding would warn about.
_GREEDY: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def _load_image_processor(model: str, revision: str | None) -> Any:
    """Qwen2.5-VL's processor for images only: the library's own insists on videos too, which need torchvision."""
    from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLProcessor
    from transformers.processing_utils import ProcessorMixin

    class ImageOnlyProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
        def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None) -> None:
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left", revision=revision)
    image_processor = AutoImageProcessor.from_pretrained(model, backend="pil", revision=revision)
    return ImageOnlyProcessor(image_processor, tokenizer, tokenizer.chat_template)
