"""How images are fetched: the limits of one row, manners towards hosts, and what is refused."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config
from schemas.images import DEFAULT_MAX_PIXELS, HARD_MAX_PIXELS

OPT_OUT_DIRECTIVES = ("noai", "noimageai", "noml", "noindex", "noimageindex", "none")
"""`X-Robots-Tag` directives that keep an image out unless a config says otherwise."""

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]

_PRODUCT_TOKEN = re.compile(r"[A-Za-z_-]+")
_HEADER_TEXT = re.compile(r"[\x20-\x7e]+")

# What decides how fast the images come, not which.
_SPEED = ("concurrency", "per_host", "host_interval_s", "turn_timeout_s", "circuit_failures", "circuit_open_s")


class FetchConfig(Config):
    """The step `fetch`. Limits are inclusive."""

    user_agent: str = "editmill"
    """Product token: what the requests are signed with (the version is added), and what `robots.txt` and `X-Robots-Tag`
    are searched for. Letters, `_` and `-`."""
    contact: str | None = None
    """An address or page under which the operator of a site reaches you; it stands in the `User-Agent` header. Many
    sites refuse clients that do not give one."""

    deadline_s: Seconds = 30.0
    """Most seconds that a row may take from its first request to its last byte: name resolution, `robots.txt`,
    connections, reading, redirects, retries and the waits between them, all together."""
    connect_timeout_s: Seconds = 5.0
    """Most seconds for one connection: name resolution, TCP and TLS together."""
    stall_timeout_s: Seconds = 10.0
    """Most seconds without a byte while an answer is awaited or read."""
    max_attempts: int = Field(default=2, ge=1, le=100)
    """Attempts at a row, the first included; only faults that may pass are tried again."""
    backoff_s: float = Field(default=1.0, ge=0, le=3600)
    """Seconds after the first failed attempt, doubled after each further one, with jitter;
    `Retry-After` prolongs it."""
    max_redirects: int = Field(default=5, ge=0, le=50)
    """Redirects followed for a row. Each hop is checked as the first address was."""

    max_bytes: int = Field(default=32 * 2**20, ge=1, le=2**30)
    """Most bytes of one image, after any content decoding."""
    max_batch_bytes: int = Field(default=2**30, ge=1, le=2**31 - 2**20)
    """Most bytes of a whole partition's images, arrived or arriving. Rows beyond are rejected (`batch_full`): retry
    them, or cut the input into smaller partitions."""
    max_pixels: int = Field(default=DEFAULT_MAX_PIXELS, ge=1, le=HARD_MAX_PIXELS)
    """Most pixels (width x height) of one image, by its header."""
    check: Literal["decode", "header"] = "decode"
    """How an image is looked at: decoded once, or its header and size alone (faster; damage may be met later)."""

    concurrency: int = Field(default=128, ge=1, le=4096)
    """Requests under way at once, in each worker process."""
    per_host: int = Field(default=4, ge=1)
    """Requests under way at once to one host, in each worker process."""
    host_interval_s: float = Field(default=0.0, ge=0, le=3600)
    """Least seconds between the beginnings of two requests to one host, in each worker process; a `Crawl-delay` that is
    longer prevails."""
    turn_timeout_s: Seconds = 120.0
    """Most seconds that a row waits for its turn at a host that is busy or asked to be left alone, before its deadline
    begins (`host_busy`)."""
    circuit_failures: int | None = Field(default=5, ge=1)
    """After so many faults in a row a host is left alone (`host_unavailable`); null: never."""
    circuit_open_s: Seconds = 60.0
    """Seconds for which it is left alone; then one request tries whether it is back."""

    robots_txt: bool = True
    """Honour `robots.txt` (RFC 9309): 4xx allows everything; 5xx, 429 and unreachable allow nothing."""
    robots_cache_s: Seconds = 3600.0
    """Seconds for which a `robots.txt` is remembered (RFC 9309: at most 24 hours)."""
    disallowed_directives: tuple[str, ...] = OPT_OUT_DIRECTIVES
    """`X-Robots-Tag` directives, for everybody or for `user_agent`, that keep an image out (`opted_out`)."""
    tdm_reservation: bool = True
    """Honour `tdm-reservation: 1` (TDM Reservation Protocol) as well."""

    allow_networks: tuple[str, ...] = ()
    """Networks (CIDR) that may be connected to although they are private, loopback, link-local or otherwise not public:
    `["10.0.0.0/8"]`."""
    verify_tls: bool = True
    """Whether certificates must be valid."""

    @field_validator("user_agent")
    @classmethod
    def _is_token(cls, value: str) -> str:
        if _PRODUCT_TOKEN.fullmatch(value) is None:
            raise ValueError("must be a product token: letters, '_' and '-'")
        return value

    @field_validator("contact")
    @classmethod
    def _is_header_text(cls, value: str | None) -> str | None:
        if value is not None and _HEADER_TEXT.fullmatch(value) is None:
            raise ValueError("must be printable ASCII in one line, as https://example.org/crawler or me@example.org")
        return value

    @field_validator("disallowed_directives")
    @classmethod
    def _are_lower_case(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(value.strip().lower() for value in values)

    @field_validator("allow_networks")
    @classmethod
    def _are_networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            try:
                ipaddress.ip_network(value)
            except ValueError as error:
                raise ValueError(f"'{value}' is no network in CIDR notation ({error})") from error
        return values

    @model_validator(mode="after")
    def _limits_fit(self) -> FetchConfig:
        if self.max_batch_bytes < self.max_bytes:
            raise ValueError(f"max_batch_bytes {self.max_batch_bytes} is below max_bytes {self.max_bytes}")
        return self

    def decisive(self) -> dict[str, object]:
        """The keys that decide which rows are kept and why others are not, as JSON-able values."""
        return {name: value for name, value in self.as_json().items() if name not in _SPEED}
