"""What was asked and what it cost, over all workers and restarts; and the limit at which nothing more is asked.

Each worker keeps its own sum in a file of its own beside the cache and reads those of the others, so that there is
nothing to lock. A reply is entered before it is kept: killed between the two, it is paid for twice and counted twice.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

from pipelines.vlm.backend import Reply
from pipelines.vlm.config import PriceConfig
from schemas.atomic import canonical_json, writing
from schemas.errors import BudgetError, ConfigError

LOOK_S = 0.5
"""Other workers' sums are read again after this many seconds."""
MILLION = 1_000_000


class Ledger:
    """Counts requests, tokens and money of one account.

    Args:
        folder: of the account's files, shared by all its workers; None counts in this process only.
        account: name for messages.
        price: what tokens cost, and how much may be spent.
    """

    def __init__(self, folder: Path | None, account: str, price: PriceConfig) -> None:
        self._folder, self._account, self._price = folder, account, price
        self._own: Counter[str] = Counter()
        self._others: dict[str, int] = {}
        self._looked = float("-inf")
        self._file = f"{uuid.uuid4().hex}.json"
        self._lock = threading.Lock()

    def enter(self, reply: Reply) -> None:
        """Count a reply that was paid for.

        Raises:
            ConfigError: there is a limit, and the endpoint does not tell the tokens.
            OutputError: the account's file cannot be written.
        """
        if self._price.limit is not None and (reply.prompt_tokens is None or reply.completion_tokens is None):
            raise ConfigError(
                "backend.price.limit",
                self._price.limit,
                "cannot be held: the endpoint does not tell the tokens of its replies (usage)",
                "Use an endpoint that does, or leave the limit out.",
            )
        entry = Counter(
            requests=1,
            prompt_tokens=reply.prompt_tokens or 0,
            completion_tokens=reply.completion_tokens or 0,
            spent_millionths=self.cost_millionths(reply),
        )
        with self._lock:
            self._own.update(entry)
            if self._folder is not None:
                self._write(self._folder)

    def cost_millionths(self, reply: Reply) -> int:
        """Price of a reply in millionths of the currency's unit, rounded up."""
        price = self._price
        cost = price.prompt * (reply.prompt_tokens or 0) + price.completion * (reply.completion_tokens or 0)
        return -int(-cost // 1)

    def check(self) -> None:
        """Look whether anything more may be asked.

        Raises:
            BudgetError: the limit is reached.
        """
        limit = self._price.limit
        if limit is None:
            return
        spent = self.spent()
        if spent >= limit:
            raise BudgetError(
                f"backend.price.limit of '{self._account}'",
                f"spent {spent:.6g}",
                f"at most {limit:.6g} may be spent",
                "Raise the limit and give the same command again: every reply is kept, and none is paid for twice.",
            )

    def spent(self) -> float:
        """Money spent so far by all workers, in the currency's unit."""
        with self._lock:
            if self._folder is not None and time.monotonic() - self._looked > LOOK_S:
                self._others = _sums(self._folder, self._file)
                self._looked = time.monotonic()
            return (self._own["spent_millionths"] + self._others.get("spent_millionths", 0)) / MILLION

    def _write(self, folder: Path) -> None:
        path = folder / self._file
        aside = folder / f".{self._file}.partial"
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            aside.write_text(canonical_json(dict(self._own)))
            aside.replace(path)


def _sums(folder: Path, but: str) -> dict[str, int]:
    """The sum over the files of an account, but one. A file that a crash damaged counts nothing."""
    total: Counter[str] = Counter()
    for path in folder.glob("[0-9a-f]*.json"):
        if path.name == but:
            continue
        try:
            value = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(value, dict):
            total.update({name: count for name, count in value.items() if isinstance(count, int)})
    return dict(total)


def account_totals(folder: Path) -> dict[str, int]:
    """What an account came to: requests, prompt_tokens, completion_tokens, spent_millionths. Empty where none is."""
    return _sums(folder, "")
