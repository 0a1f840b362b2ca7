"""The OpenAI chat-completions format: from a request to a body, and from a body to a reply."""

from __future__ import annotations

import base64
import json
from typing import Any

import pyarrow as pa

from pipelines.retries import PermanentError
from pipelines.vlm.backend import Reply, Request
from pipelines.vlm.config import GenerationConfig, OpenAIEndpointConfig
from pipelines.vlm.images import endpoint_image


def messages(request: Request, max_side: int) -> list[dict[str, Any]]:
    """The request as messages, images as data URLs.

    Args:
        max_side: longest side of an image, in pixels.

    Raises:
        RowRejected: as `schemas.images.decode_image`.
    """
    said: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
    said.append({"role": "user", "content": [_part(part, max_side) for part in request.parts]})
    for reply, answer in request.turns:
        said += [{"role": "assistant", "content": reply}, {"role": "user", "content": answer}]
    return said


def chat_body(request: Request, config: OpenAIEndpointConfig, generation: GenerationConfig) -> bytes:
    """The JSON to post to /chat/completions; arguments and errors as for `messages`."""
    body: dict[str, Any] = {
        "model": config.model,
        "messages": messages(request, generation.max_side),
        "max_tokens": generation.max_new_tokens,
        "temperature": generation.temperature,
    }
    if request.schema is not None and config.impose_schema:
        form = {"name": "reply", "strict": True, "schema": dict(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return json.dumps(body).encode()


def parse_completion(data: bytes) -> Reply:
    """The first choice of a chat completion.

    Raises:
        PermanentError: `endpoint_not_json`, `endpoint_wrong_schema`.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PermanentError("endpoint_not_json", f"the endpoint sent no JSON: {excerpt(data)}") from error
    try:
        choice = value["choices"][0]
        text, finish_reason = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as error:
        sentence = f"the reply is no chat completion: {excerpt(data)}"
        raise PermanentError("endpoint_wrong_schema", sentence) from error
    # The API gives null as the content of a reply without text.
    text = "" if text is None else text
    if not isinstance(text, str) or not isinstance(finish_reason, str):
        raise PermanentError("endpoint_wrong_schema", f"content and finish_reason must be text: {excerpt(data)}")
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(text, finish_reason, _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def excerpt(data: bytes, limit: int = 160) -> str:
    """The beginning of a body, on one line."""
    text = " ".join(data[: 4 * limit].decode("utf-8", "replace").split())
    return text[:limit] + ("…" if len(text) > limit else "")


def described(error: Exception) -> str:
    """An exception's type and text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _part(part: str | pa.Buffer, max_side: int) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    media_type, data = endpoint_image(part.to_pybytes(), max_side)
    url = f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
