"""Replies from an OpenAI-compatible endpoint: chat completions with the images as data URLs."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pyarrow as pa

from pipelines.retries import PermanentError, RetryableError, parse_retry_after, wait_s
from pipelines.vlm.backend import Reply, Request
from pipelines.vlm.config import GenerationConfig, OpenAIEndpointConfig
from pipelines.vlm.images import endpoint_image
from schemas.errors import ConfigError, InputError, RowRejected

_TOO_MANY_REQUESTS = 429
_KEY_REFUSED = frozenset({401, 403})
_NOT_FOUND = 404
_UNREACHABLE = "endpoint_unreachable"


class OpenAIEndpoint:
    """An endpoint asked several questions at a time. Needs nothing but httpx."""

    def __init__(self, config: OpenAIEndpointConfig, generation: GenerationConfig) -> None:
        self._config = config
        self._generation = generation
        self._draw = random.Random()

    def preflight(self) -> None:
        """Ask GET /models whether the endpoint is there, takes the key, and serves the model."""
        address = f"{self._config.url}/models"
        self._check_key()
        try:
            response = httpx.get(address, headers=self._headers(), timeout=self._config.timeout_s)
        except httpx.RequestError as error:
            raise InputError(
                "backend.url",
                self._config.url,
                f"does not answer ({_described(error)})",
                "Start the server, or correct the address.",
            ) from error
        self._check_access(response)
        if not self._config.check_model:
            return
        try:
            listed = [str(entry["id"]) for entry in response.raise_for_status().json()["data"]]
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                "backend.url",
                address,
                f"must list models as OpenAI's API does ({_described(error)})",
                "Check that the address ends with the API's version (/v1), or set check_model: false.",
            ) from error
        if self._config.model not in listed:
            raise ConfigError(
                "backend.model",
                self._config.model,
                "is not served by the endpoint",
                f"It lists: {', '.join(listed[:10]) or 'nothing'}.",
            )

    def setup(self) -> None:
        """Look for the key again: a worker may stand on another machine."""
        self._check_key()

    def ask(self, requests: Sequence[Request]) -> list[Reply | RowRejected]:
        """As `VLMBackend.ask`, with at most `concurrency` requests in flight.

        Raises:
            ConfigError: the endpoint refuses the key.
            InputError: the endpoint does not know the model or the address, or no request of the batch reached it: an
                endpoint that went away must not be told as a fault of the rows.
        """
        # In a thread of its own, because the caller's may already run an event loop (a notebook, an actor).
        with ThreadPoolExecutor(max_workers=1) as own_thread:
            results = own_thread.submit(asyncio.run, self._ask_all(requests)).result()
        gone = [result for result in results if isinstance(result, RowRejected) and result.reason == _UNREACHABLE]
        if gone and len(gone) == len(results):
            raise InputError(
                "backend.url",
                self._config.url,
                f"does not answer any more ({gone[0].sentence})",
                "Bring the endpoint back and start again: what was committed stays.",
            )
        return results

    async def _ask_all(self, requests: Sequence[Request]) -> list[Reply | RowRejected]:
        in_flight = asyncio.Semaphore(self._config.concurrency)
        limits = httpx.Limits(max_connections=self._config.concurrency)
        timeout = httpx.Timeout(self._config.timeout_s)
        async with httpx.AsyncClient(headers=self._headers(), limits=limits, timeout=timeout) as client:

            async def one(request: Request) -> Reply | RowRejected:
                async with in_flight:
                    try:
                        return await self._ask_until_answered(client, request)
                    except RowRejected as rejection:
                        return rejection

            return await asyncio.gather(*(one(request) for request in requests))

    async def _ask_until_answered(self, client: httpx.AsyncClient, request: Request) -> Reply:
        body = await asyncio.to_thread(self._body, request)
        attempts = self._config.max_attempts
        for attempt in range(1, attempts):
            try:
                return await self._ask(client, body)
            except RetryableError as fault:
                await asyncio.sleep(wait_s(attempt, self._config.backoff_s, fault.retry_after_s, self._draw))
        try:
            return await self._ask(client, body)
        except RetryableError as fault:
            raise RetryableError(fault.reason, f"{fault.sentence}; attempt {attempts} of {attempts}") from fault

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Reply:
        seconds = self._config.timeout_s
        try:
            # httpx bounds the wait for each piece only; a reply that drips in must end, too.
            async with asyncio.timeout(seconds):
                response = await client.post(f"{self._config.url}/chat/completions", json=body)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise RetryableError("endpoint_timeout", f"the reply was not complete within {seconds:g} s") from error
        except httpx.ConnectError as error:
            raise RetryableError(_UNREACHABLE, f"no connection ({_described(error)})") from error
        except httpx.RequestError as error:
            raise RetryableError("endpoint_error", f"the connection failed ({_described(error)})") from error
        status = response.status_code
        if status == _TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            after = parse_retry_after(response.headers.get("retry-after"))
            raise RetryableError("endpoint_error", f"the endpoint answered {status}: {_excerpt(response)}", after)
        self._check_access(response)
        if status == _NOT_FOUND:
            raise InputError(
                "backend",
                f"{self._config.url}, model {self._config.model}",
                f"is not found (404: {_excerpt(response)})",
                "Check the address and the model's name.",
            )
        if status != httpx.codes.OK:
            raise PermanentError("endpoint_refused", f"the endpoint answered {status}: {_excerpt(response)}")
        return _reply(response)

    def _body(self, request: Request) -> dict[str, Any]:
        system = [{"role": "system", "content": request.system}] if request.system else []
        return {
            "model": self._config.model,
            "messages": [*system, {"role": "user", "content": [self._part(part) for part in request.parts]}],
            "max_tokens": self._generation.max_new_tokens,
            "temperature": self._generation.temperature,
        }

    def _part(self, part: str | pa.Buffer) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        media_type, data = endpoint_image(part.to_pybytes(), self._generation.max_side)
        url = f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
        return {"type": "image_url", "image_url": {"url": url}}

    def _headers(self) -> dict[str, str]:
        key = self._config.api_key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _check_key(self) -> None:
        if self._config.api_key_env and self._config.api_key() is None:
            raise ConfigError(
                "backend.api_key_env",
                self._config.api_key_env,
                "the environment variable is not set",
                f"Set it: export {self._config.api_key_env}=...",
            )

    def _check_access(self, response: httpx.Response) -> None:
        if response.status_code in _KEY_REFUSED:
            raise ConfigError(
                "backend.api_key_env",
                self._config.api_key_env,
                f"the endpoint refuses access ({response.status_code})",
                "Name the environment variable that holds a valid key.",
            )


def _reply(response: httpx.Response) -> Reply:
    """The first choice of a chat completion.

    Raises:
        PermanentError: `endpoint_not_json`, `endpoint_wrong_schema`.
    """
    try:
        value = response.json()
    except ValueError as error:
        raise PermanentError("endpoint_not_json", f"the endpoint sent no JSON: {_excerpt(response)}") from error
    try:
        choice = value["choices"][0]
        text, finish_reason = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as error:
        sentence = f"the reply is no chat completion: {_excerpt(response)}"
        raise PermanentError("endpoint_wrong_schema", sentence) from error
    # The API gives null as the content of a reply without text.
    text = "" if text is None else text
    if not isinstance(text, str) or not isinstance(finish_reason, str):
        raise PermanentError("endpoint_wrong_schema", f"content and finish_reason must be text: {_excerpt(response)}")
    return Reply(text, finish_reason)


def _excerpt(response: httpx.Response, limit: int = 160) -> str:
    text = " ".join(response.text.split())
    return text[:limit] + ("…" if len(text) > limit else "")


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
