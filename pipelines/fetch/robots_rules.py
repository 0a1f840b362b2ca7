"""What a robots.txt allows (RFC 9309), whatever it is: megabytes, binary, or written to keep a parser busy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from protego import Protego

from pipelines.fetch.faults import FetchFault

MOST_BYTES = 500 * 1024
"""RFC 9309, 2.5: at least 500 KiB must be parsed; what comes after is not read."""
_LONGEST_LINE = 4096

_AGENT_LINE = re.compile(r"\s*user[-\s]*agent\s*:?(.*)", re.IGNORECASE)
_AFTER_NAME = re.compile(r"[/*\s]")
_NOBODY = "another-crawler"


@dataclass(frozen=True)
class RobotsRules:
    """The rules of one host for one crawler.

    Args:
        agent: the crawler's product token.
        text: the robots.txt; empty allows everything.
        refusal: why nothing is allowed, or None.
    """

    agent: str
    text: str = ""
    refusal: FetchFault | None = None

    def check(self, url: str) -> None:
        """Check that `url` may be fetched.

        Raises:
            FetchFault: `robots_txt`, or `refusal`.
        """
        if self.refusal is not None:
            raise FetchFault(self.refusal.reason, self.refusal.sentence)
        if self.text and not self._parsed.can_fetch(url, self.agent):
            raise FetchFault("robots_txt", f"robots.txt disallows it for '{self.agent}'")

    def parse(self) -> None:
        """Parse the text now; without this, the first check does."""
        _ = self._parsed

    @property
    def crawl_delay_s(self) -> float:
        """The least seconds between requests that it asks for; 0 where it does not."""
        return float(self._parsed.crawl_delay(self.agent) or 0.0) if self.text else 0.0

    @cached_property
    def _parsed(self) -> Protego:
        return Protego.parse(for_agent(self.text, self.agent))


def for_agent(text: str, agent: str) -> str:
    """`text` with the groups of all other crawlers under one name, and without overlong lines.

    A parser keeps each rule for each crawler named above it, so that a file of half a megabyte could make it keep
    hundreds of millions. A version behind a name (`editmill/1.0`) does not count.
    """
    lines: list[str] = []
    for line in text.splitlines():
        named = _AGENT_LINE.match(line.partition("#")[0])
        if named is not None:
            name = named[1].strip().lower()
            ours = _AFTER_NAME.split(name, maxsplit=1)[0] == agent.lower()
            lines.append(f"user-agent: {agent if ours else '*' if name == '*' else _NOBODY}")
        elif line.strip() and len(line) <= _LONGEST_LINE:
            lines.append(line)
    return "\n".join(lines)
