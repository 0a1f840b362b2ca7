"""Replies from an OpenAI-compatible endpoint: chat completions with the images as data URLs."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx

from pipelines.retries import PermanentError, RetryableError, parse_retry_after, wait_s
from pipelines.vlm.backend import NOBODY, Reply, Request, Watcher
from pipelines.vlm.chat_completions import chat_body, described, excerpt, parse_completion
from pipelines.vlm.config import GenerationConfig, OpenAIEndpointConfig
from schemas.errors import ConfigError, EditmillError, InputError, RowRejected

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
            status, data = _in_own_thread(self._get(address))
        except (httpx.RequestError, TimeoutError, PermanentError) as error:
            raise InputError(
                "backend.url",
                self._config.url,
                f"does not answer ({described(error)})",
                "Start the server, or correct the address.",
            ) from error
        self._check_access(status)
        if not self._config.check_model:
            return
        try:
            if status != httpx.codes.OK:
                raise ValueError(f"it answered {status}")
            listed = [str(entry["id"]) for entry in json.loads(data)["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "backend.url",
                address,
                f"must list models as OpenAI's API does ({described(error)})",
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

    def revision(self) -> str:
        """The config's: an endpoint does not tell."""
        return self._config.revision

    def ask(self, requests: Sequence[Request], watcher: Watcher = NOBODY) -> list[Reply | RowRejected]:
        """As `VLMBackend.ask`, with at most `concurrency` requests in flight.

        Raises:
            ConfigError: the endpoint refuses the key.
            InputError: the endpoint does not know the model or the address, or no request of the batch reached it: an
                endpoint that went away must not be told as a fault of the rows.
            EditmillError: of the watcher.
        """
        results = _in_own_thread(self._ask_all(requests, watcher))
        gone = [result for result in results if isinstance(result, RowRejected) and result.reason == _UNREACHABLE]
        if gone and len(gone) == len(results):
            raise InputError(
                "backend.url",
                self._config.url,
                f"does not answer any more ({gone[0].sentence})",
                "Bring the endpoint back and start again: what was committed stays.",
            )
        return results

    async def _ask_all(self, requests: Sequence[Request], watcher: Watcher) -> list[Reply | RowRejected]:
        in_flight = asyncio.Semaphore(self._config.concurrency)
        limits = httpx.Limits(max_connections=self._config.concurrency)
        timeout = httpx.Timeout(self._config.timeout_s)
        fatal: list[EditmillError] = []
        async with httpx.AsyncClient(headers=self._headers(), limits=limits, timeout=timeout) as client:

            async def one(place: int, request: Request) -> Reply | RowRejected | None:
                async with in_flight:
                    if fatal:
                        return None
                    try:
                        reply = await self._ask_in_time(client, request, watcher)
                        await asyncio.to_thread(watcher.arrived, place, reply)
                    except RowRejected as rejection:
                        return rejection
                    except EditmillError as error:
                        # Nothing more goes out, but what is on its way was paid for: its replies are waited for.
                        fatal.append(error)
                        return None
                    return reply

            results = await asyncio.gather(*(one(place, request) for place, request in enumerate(requests)))
        if fatal:
            raise fatal[0]
        return [result for result in results if result is not None]

    async def _ask_in_time(self, client: httpx.AsyncClient, request: Request, watcher: Watcher) -> Reply:
        body = await asyncio.to_thread(chat_body, request, self._config, self._generation)
        await _admitted(watcher)
        seconds, attempts = self._config.deadline_s, self._config.max_attempts
        clock = asyncio.get_running_loop()
        end = clock.time() + seconds
        attempt, fault = 1, RetryableError("endpoint_timeout", f"no reply within the deadline of {seconds:g} s")
        try:
            async with asyncio.timeout_at(end):
                while True:
                    try:
                        return await self._ask(client, body)
                    except RetryableError as met:
                        fault = met
                    pause = wait_s(attempt, self._config.backoff_s, fault.retry_after_s, self._draw)
                    if attempt == attempts or clock.time() + pause > end:
                        break
                    attempt += 1
                    await asyncio.sleep(pause)
                    await _admitted(watcher)
        except TimeoutError:
            pass
        raise RetryableError(fault.reason, f"{fault.sentence}; attempt {attempt} of {attempts}") from fault

    async def _ask(self, client: httpx.AsyncClient, body: bytes) -> Reply:
        seconds = self._config.timeout_s
        address = f"{self._config.url}/chat/completions"
        try:
            # httpx bounds the wait for each piece only; a reply that drips in must end, too.
            async with (
                asyncio.timeout(seconds),
                client.stream("POST", address, content=body, headers=_JSON) as response,
            ):
                data = await self._read(response)
        except httpx.TimeoutException as error:
            raise RetryableError("endpoint_timeout", f"the reply was not complete within {seconds:g} s") from error
        except TimeoutError as error:
            raise RetryableError("endpoint_timeout", f"the reply was not complete within {seconds:g} s") from error
        except httpx.ConnectError as error:
            raise RetryableError(_UNREACHABLE, f"no connection ({described(error)})") from error
        except httpx.RequestError as error:
            raise RetryableError("endpoint_error", f"the connection failed ({described(error)})") from error
        status = response.status_code
        if status == _TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            after = parse_retry_after(response.headers.get("retry-after"))
            raise RetryableError("endpoint_error", f"the endpoint answered {status}: {excerpt(data)}", after)
        self._check_access(status)
        if status == _NOT_FOUND:
            raise InputError(
                "backend",
                f"{self._config.url}, model {self._config.model}",
                f"is not found (404: {excerpt(data)})",
                "Check the address and the model's name.",
            )
        if status != httpx.codes.OK:
            raise PermanentError("endpoint_refused", f"the endpoint answered {status}: {excerpt(data)}")
        return parse_completion(data)

    async def _get(self, address: str) -> tuple[int, bytes]:
        """Status and body, within `timeout_s` however slowly they come."""
        async with (
            asyncio.timeout(self._config.timeout_s),
            httpx.AsyncClient(headers=self._headers(), timeout=self._config.timeout_s) as client,
            client.stream("GET", address) as response,
        ):
            return response.status_code, await self._read(response)

    async def _read(self, response: httpx.Response) -> bytes:
        most = self._config.max_reply_bytes
        data = bytearray()
        async for piece in response.aiter_bytes():
            data += piece
            if len(data) > most:
                raise PermanentError("endpoint_reply_too_large", f"the reply has more than {most:,} bytes")
        return bytes(data)

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

    def _check_access(self, status: int) -> None:
        if status in _KEY_REFUSED:
            raise ConfigError(
                "backend.api_key_env",
                self._config.api_key_env,
                f"the endpoint refuses access ({status})",
                "Name the environment variable that holds a valid key.",
            )


_JSON = {"Content-Type": "application/json"}
Result = TypeVar("Result")


def _in_own_thread(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` in a thread of its own, because the caller's may already run an event loop (a notebook, an actor)."""
    with ThreadPoolExecutor(max_workers=1) as own_thread:
        return own_thread.submit(asyncio.run, work).result()


async def _admitted(watcher: Watcher) -> None:
    pause = await asyncio.to_thread(watcher.admit)
    if pause > 0:
        await asyncio.sleep(pause)
