"""A backend with a memory: what was answered before is not asked again, what is asked is counted and kept at once."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.vlm.backend import NOBODY, Reply, Request, VLMBackend, Watcher
from pipelines.vlm.config import GenerationConfig, OpenAIEndpointConfig, PriceConfig
from pipelines.vlm.ledger import MILLION, Ledger, account_totals
from pipelines.vlm.pace import Pacer
from pipelines.vlm.reply_cache import ReplyCache, request_key
from schemas.atomic import fingerprint
from schemas.errors import RowRejected


class Asker:
    """Asks `inner` only what the cache lacks, within the config's pace and price. Light to pickle before `setup`.

    Args:
        inner: the backend.
        config: of the step that asks.
    """

    def __init__(self, inner: VLMBackend, config: GenerationConfig) -> None:
        self.inner = inner
        self._config = config
        self._desk: _Desk | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_desk": None}

    def preflight(self) -> None:
        """As the backend's."""
        self.inner.preflight()

    def setup(self) -> None:
        """As the backend's."""
        self.inner.setup()

    def revision(self) -> str:
        """As the backend's."""
        return self.inner.revision()

    def ask(self, requests: Sequence[Request]) -> list[Reply | RowRejected]:
        """One result for each request, in order, from the cache or from the model; equal requests are asked once.

        Raises:
            EditmillError: as `VLMBackend.ask`; replies that came before it are in the cache.
            BudgetError: no more money may be spent.
        """
        return self._at_desk().ask(self.inner, requests)

    @contextmanager
    def noting(self) -> Iterator[dict[str, Request]]:
        """Inside, what the cache lacks is noted, by key, instead of asked; its rows are told that they were not asked.

        For whoever answers ahead, and hands the replies in with `keep`.
        """
        notes: dict[str, Request] = {}
        inner, self.inner = self.inner, _NoteTaker(self._at_desk(), notes)
        try:
            yield notes
        finally:
            self.inner = inner

    def keep(self, key: str, reply: Reply) -> None:
        """Enter a reply that was got elsewhere: it is counted and put into the cache."""
        self._at_desk().arrived(key, reply)

    def _at_desk(self) -> _Desk:
        if self._desk is None:
            self._desk = _Desk(self._config, self.inner.revision())
        return self._desk

    def figures(self) -> dict[str, int]:
        """What was asked since the last call of this: requests, replies_from_cache, prompt_tokens, completion_tokens.
        Tokens are those of requests, not of replies from the cache."""
        return {} if self._desk is None else self._desk.take_figures()

    def used(self) -> tuple[int, int]:
        """Prompt and completion tokens of all replies since the last call of this, those from the cache included: what
        the questions cost where nothing was asked before."""
        return (0, 0) if self._desk is None else self._desk.take_used()

    def price(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost, in the unit of the prices."""
        price = _price(self._config)
        return (price.prompt * prompt_tokens + price.completion * completion_tokens) / MILLION

    @property
    def is_priced(self) -> bool:
        """Whether tokens cost money."""
        price = _price(self._config)
        return bool(price.prompt or price.completion)

    def totals(self) -> dict[str, int]:
        """What this step's account came to over all workers and starts: requests, prompt_tokens, completion_tokens,
        spent_millionths. Empty without a cache, or where nothing was asked."""
        folder = _account(self._config)[1]
        return {} if folder is None else account_totals(folder)


def _price(config: GenerationConfig) -> PriceConfig:
    return config.backend.price if isinstance(config.backend, OpenAIEndpointConfig) else PriceConfig()


def _account(config: GenerationConfig) -> tuple[str, Path | None]:
    """Name and folder of the account that a step's replies go to."""
    model = re.sub(r"[^A-Za-z0-9.]+", "-", config.backend.model_name()).strip("-.")
    name = _price(config).account or f"{model}-{fingerprint(config.decisive())}"
    return name, None if config.cache is None else Path(config.cache) / "spent" / name


class _Desk:
    def __init__(self, config: GenerationConfig, revision: str) -> None:
        backend = config.backend
        self._decisive = {
            "model": backend.model_name(),
            "revision": revision,
            "max_new_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "max_side": config.max_side,
            "backend": {name: config.decisive()["backend"].get(name) for name in ("dtype", "impose_schema")},
        }
        folder = None if config.cache is None else Path(config.cache)
        self._cache = None if folder is None else ReplyCache(folder / "kept")
        pacer = Pacer(None, None, None)
        if isinstance(backend, OpenAIEndpointConfig):
            served = hashlib.sha256(f"{backend.url} {backend.model}".encode()).hexdigest()[:16]
            file = None if folder is None else folder / "pace" / f"{served}.json"
            pacer = Pacer(file, backend.requests_per_minute, backend.tokens_per_minute)
        name, place = _account(config)
        self._ledger = Ledger(place, name, _price(config))
        self._pacer = pacer
        self._figures: Counter[str] = Counter()
        self._used = (0, 0)

    def ask(self, backend: VLMBackend, requests: Sequence[Request]) -> list[Reply | RowRejected]:
        keys = [self.key(request) for request in requests]
        known: dict[str, Reply | RowRejected] = {}
        if self._cache is not None:
            found = {key: self._cache.get(key) for key in dict.fromkeys(keys)}
            known = {key: reply for key, reply in found.items() if reply is not None}
            self._figures["replies_from_cache"] += len(known)
        first = {key: place for place, key in reversed(list(enumerate(keys))) if key not in known}
        asked = sorted(first.values())
        if asked:
            watcher = _Watcher(self, [keys[place] for place in asked])
            replies = backend.ask([requests[place] for place in asked], watcher)
            known.update({keys[place]: reply for place, reply in zip(asked, replies, strict=True)})
        given = [reply for reply in known.values() if isinstance(reply, Reply)]
        prompt = sum(reply.prompt_tokens or 0 for reply in given)
        completion = sum(reply.completion_tokens or 0 for reply in given)
        self._used = (self._used[0] + prompt, self._used[1] + completion)
        return [known[key] for key in keys]

    def key(self, request: Request) -> str:
        return request_key(request, self._decisive)

    def admit(self) -> float:
        self._ledger.check()
        return self._pacer.admit()

    def arrived(self, key: str, reply: Reply) -> None:
        self._ledger.enter(reply)
        if self._cache is not None:
            self._cache.put(key, reply)
        tokens = {"prompt_tokens": reply.prompt_tokens or 0, "completion_tokens": reply.completion_tokens or 0}
        self._pacer.charge(sum(tokens.values()))
        self._figures.update({"requests": 1, **tokens})

    def take_used(self) -> tuple[int, int]:
        taken, self._used = self._used, (0, 0)
        return taken

    def take_figures(self) -> dict[str, int]:
        taken: Mapping[str, int] = self._figures
        self._figures = Counter()
        return dict(taken)


class _NoteTaker:
    """A backend that answers nothing."""

    def __init__(self, desk: _Desk, notes: dict[str, Request]) -> None:
        self._desk, self._notes = desk, notes

    def preflight(self) -> None:
        return

    def setup(self) -> None:
        return

    def revision(self) -> str:
        return ""

    def ask(self, requests: Sequence[Request], watcher: Watcher = NOBODY) -> list[Reply | RowRejected]:
        self._notes.update({self._desk.key(request): request for request in requests})
        return [RowRejected("not_asked", "the question was only noted")] * len(requests)


class _Watcher:
    """What a backend sees of a desk for one batch."""

    def __init__(self, desk: _Desk, keys: Sequence[str]) -> None:
        self._desk, self._keys = desk, keys
        self._lock = threading.Lock()

    def admit(self) -> float:
        return self._desk.admit()

    def arrived(self, place: int, reply: Reply) -> None:
        with self._lock:
            self._desk.arrived(self._keys[place], reply)
