"""Which faults of a server may pass, and how long to wait before asking again."""

from __future__ import annotations

import email.utils
import math
import random
from datetime import UTC, datetime

from schemas.errors import RowRejected

LONGEST_WAIT_S = 60.0
"""No wait is longer, whatever the endpoint asks for."""


class RetryableError(RowRejected):
    """A fault that may pass: 429, 5xx, a lost connection, a timeout. It rejects the row once every attempt met one.

    Args:
        retry_after_s: seconds that the endpoint asked to be left alone, or None.
    """

    def __init__(self, reason: str, sentence: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason, sentence)
        self.retry_after_s = retry_after_s


class PermanentError(RowRejected):
    """A fault that the same request would meet again."""


def wait_s(attempt: int, backoff_s: float, retry_after_s: float | None, draw: random.Random) -> float:
    """Seconds to wait after the failed attempt number `attempt` (from 1).

    Between half and all of `backoff_s` x 2^(attempt - 1), so that workers that failed together do not come back
    together; at least what the endpoint asked for; at most `LONGEST_WAIT_S`.
    """
    # Past 2^32 the wait is capped anyway, and a float could overflow.
    longest = backoff_s * 2.0 ** min(attempt - 1, 32)
    return min(LONGEST_WAIT_S, max(draw.uniform(longest / 2, longest), retry_after_s or 0.0))


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for, given as seconds or as a date (RFC 9110); None if unreadable."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(header) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
