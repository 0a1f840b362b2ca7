"""The step `fetch` against a hostile server: each row ends in time, with its reason, and the others do not notice."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hostile_server import GOOD, PLAIN, Hostile, answer, hostile, huge_png, jpeg

from pipelines.fetch.addresses import AddressInfo
from pipelines.fetch.config import FetchConfig
from pipelines.fetch.faults import REASONS
from pipelines.fetch.step import Fetch
from pipelines.step import StepResult
from schemas.records import IMAGE_RECORD

pytestmark = pytest.mark.timeout(60)
DEADLINE_S = 2.0


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile() as running:
        yield running


def loopback(host: str, port: int) -> list[AddressInfo]:
    """Names below `.test` are here; the rest does not exist."""
    if host.endswith(".test"):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    code = socket.EAI_AGAIN if host.endswith(".again") else socket.EAI_NONAME
    raise socket.gaierror(code, "no such name")


def step_with(**changes: Any) -> Fetch:
    values: dict[str, Any] = {
        "deadline_s": DEADLINE_S,
        "connect_timeout_s": 0.5,
        "stall_timeout_s": 0.5,
        "backoff_s": 0.02,
        "max_bytes": 2_000_000,
        "circuit_failures": None,
        "allow_networks": ("127.0.0.0/8", "::1/128"),
        **changes,
    }
    step = Fetch(FetchConfig(**values), loopback)
    step.setup()
    return step


def rows(urls: list[str | None], **columns: list[Any]) -> pa.Table:
    keys = [f"{place:032x}" for place in range(len(urls))]
    return pa.table({"key": keys, "url": pa.array(urls, pa.string()), **columns})


def reasons(result: StepResult) -> dict[int, str]:
    keys, given = (result.rejected[name].to_pylist() for name in ("key", "reason"))
    return {int(key, 16): reason for key, reason in zip(keys, given, strict=True)}


def kept(result: StepResult) -> list[int]:
    return [int(key, 16) for key in result.kept["key"].to_pylist()]


EXPECTED: dict[str, str | None] = {
    **dict.fromkeys(("html", "svg"), "image_format_unknown"),
    "text_header": None,
    "empty": "image_empty",
    "no_content": "http_204",
    "cut_jpeg": "image_truncated",
    "broken_jpeg": "image_corrupt",
    "pixel_bomb": "image_too_large",
    **dict.fromkeys(("gzip", "deflate", "raw_deflate", "chunked"), None),
    **dict.fromkeys(("gzip_bomb", "huge_length", "endless"), "image_too_many_bytes"),
    **dict.fromkeys(("gzip_lie", "brotli"), "content_encoding"),
    **dict.fromkeys(("gzip_cut", "truncated", "reset_late"), "body_truncated"),
    **dict.fromkeys(("negative_length", "bad_chunk", "not_http", "bad_header", "long_header"), "http_malformed"),
    "status_999": "http_unknown_status",
    **{f"status_{status}": f"http_{status}" for status in (404, 410, 429, 500)},
    **dict.fromkeys(("noai", "noai_for_us", "tdm"), "opted_out"),
    "noai_for_other": None,
    "to_good": None,
    "loop": "too_many_redirects",
    **dict.fromkeys(("to_metadata", "to_private"), "address_refused"),
    "to_file": "url_scheme",
    **dict.fromkeys(("to_nowhere", "to_invalid", "binary_header"), "redirect_invalid"),
    **dict.fromkeys(("drip", "drip_head", "silent", "stall"), "timeout"),
    "reset": "connection",
    **dict.fromkeys(("once_500", "once_429", "once_reset", "good"), None),
}


def test_every_row_ends_in_time_with_its_reason(server: Hostile) -> None:
    assert set(PLAIN) <= set(EXPECTED)
    names = list(EXPECTED)
    urls: list[str | None] = [server.url(name, f"{name.replace('_', '-')}.test") for name in names]
    urls += [None, "ftp://h/x", "http://nowhere.example/x", "http://nowhere.again/x", "http://a..b/x"]
    urls += [server.url("good?mate", f"mate{number}.test") for number in range(20)]
    table = rows(urls, caption=[f"caption {place}" for place in range(len(urls))])
    started = time.monotonic()
    result = step_with()(table)
    assert time.monotonic() - started < DEADLINE_S + 1.5
    found = reasons(result)
    wanted = {place: EXPECTED[name] for place, name in enumerate(names) if EXPECTED[name] is not None}
    further = dict(enumerate(["url_missing", "url_scheme", "dns", "dns", "dns"], start=len(names)))
    assert found == wanted | further
    assert result.kept.num_rows + result.rejected.num_rows == len(urls)
    assert kept(result)[-20:] == list(range(len(urls) - 20, len(urls)))
    assert result.kept["caption"].to_pylist() == [f"caption {place}" for place in kept(result)]
    for place, sentence in zip(found, result.rejected["sentence"].to_pylist(), strict=True):
        assert urls[place] is None or str(urls[place])[:60] in sentence
    known = {*REASONS, "image_empty", "image_format_unknown", "image_truncated", "image_too_large", "image_corrupt"}
    assert all(reason in known or reason.startswith("http_") for reason in found.values())


def test_what_a_kept_row_holds(server: Hostile) -> None:
    url = server.url("a/picture%201.png", "h.test")
    digest = hashlib.sha256(GOOD).hexdigest()
    table = rows([url] * 4, width=pa.array([9] * 4, pa.int32()), sha256=[None, digest.upper(), "0" * 64, None])
    table = table.append_column("md5", pa.array([None, hashlib.md5(GOOD).hexdigest(), None, "0" * 32]))
    result = step_with()(table)
    assert kept(result) == [0, 1] and set(reasons(result).values()) == {"image_hash_mismatch"}
    row = result.kept.to_pylist()[1]
    assert row["image"] == {"bytes": GOOD, "path": "picture_1.jpg"}
    assert (row["width"], row["height"], row["sha256"]) == (64, 64, digest)
    IMAGE_RECORD.conform(result.kept)
    # The same address is asked for once.
    assert server.asked["a/picture%201.png"] == 1


def test_names_that_lead_home_are_refused_by_default(server: Hostile) -> None:
    urls = [server.url("good", host) for host in ("h.test", "127.0.0.1", "127.1", "2130706433", "[::1]", "0.0.0.0")]
    urls += [server.url("good", "[::ffff:127.0.0.1]"), server.url("good", "localhost")]
    step = Fetch(FetchConfig(deadline_s=5, backoff_s=0.01), lambda h, p: loopback(f"{h}.test", p))
    step.setup()
    found = reasons(step(rows(list(urls))))
    assert set(found) == set(range(len(urls))) and set(found.values()) <= {"address_refused", "url_invalid"}
    assert not server.seen


def test_every_address_of_a_name_is_checked(server: Hostile) -> None:
    def several(host: str, port: int) -> list[AddressInfo]:
        inner = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (1, 2)]
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)), *inner]

    for allowed, expected in (((), 0), (("127.0.0.2/32",), 0), (("127.0.0.1/32",), 1)):
        step = Fetch(FetchConfig(deadline_s=2, backoff_s=0.01, allow_networks=allowed), several)
        step.setup()
        result = step(rows([server.url("good", "h.example")]))
        assert result.kept.num_rows == expected
        assert expected or set(reasons(result).values()) <= {"address_refused", "connection"}


def test_a_name_that_changes_its_address_does_not_get_round_the_check(server: Hostile) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[AddressInfo]:
        asked.append(host)
        place = "127.0.0.1" if len(asked) > 1 else "192.0.2.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port))]

    step = Fetch(FetchConfig(deadline_s=2, backoff_s=0.01, connect_timeout_s=0.2), rebinding)
    step.setup()
    for _ in range(2):
        assert set(reasons(step(rows([server.url("good", "h.example")]))).values()) == {"address_refused"}
    assert not server.seen


def test_ipv6(server: Hostile) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with listener:
        url = f"http://[::1]:{listener.getsockname()[1]}/x"
        result = step_with(deadline_s=0.6, max_attempts=1)(rows([url]))
        assert set(reasons(result).values()) == {"timeout"}
        listener.settimeout(1)
        listener.accept()[0].close()


@pytest.mark.parametrize(
    ("robots", "expected"),
    [
        (answer(b"User-agent: *\nDisallow: /good", Content_Type="text/plain"), "robots_txt"),
        (answer(b"User-agent: editmill\nAllow: /\nUser-agent: *\nDisallow: /"), None),
        (answer(b"", "404 Not Found"), None),
        (answer(b"", "403 Forbidden"), None),
        (answer(b"", "503 Busy"), "robots_unreachable"),
        (answer(b"", "302 Found", Location="/html"), None),
        (answer(b"", "302 Found", Location="/loop"), None),
        (answer(b"\xff\xfe\x00" * 5000), None),
        (b"garbage\r\n\r\n", "http_malformed"),
        (answer(b"", "302 Found", Location="http://10.0.0.1/robots.txt"), "address_refused"),
    ],
)
def test_robots_txt_is_asked_once_and_honoured(server: Hostile, robots: bytes, expected: str | None) -> None:
    server.robots = robots
    step = step_with()
    for _ in range(2):
        result = step(rows([server.url(f"good{number}", "h.test") for number in range(5)]))
        assert set(reasons(result).values()) == ({expected} if expected else set())
    images = sum(count for name, count in server.asked.items() if name.startswith("good"))
    assert images == (0 if expected else 10)
    if expected in (None, "robots_txt", "robots_unreachable"):
        assert server.asked["robots.txt"] == 1
    assert step_with(robots_txt=False)(rows([server.url("good", "h.test")])).kept.num_rows == 1


def test_a_redirect_asks_the_other_hosts_robots_txt(server: Hostile) -> None:
    with hostile(robots=answer(b"User-agent: *\nDisallow: /")) as other:
        target = answer(b"", "302 Found", Location=other.url("good", "other.test"))
        server.extra["away"] = lambda connection: connection.sendall(target)
        result = step_with()(rows([server.url("away", "h.test")]))
        assert set(reasons(result).values()) == {"robots_txt"} and other.asked["good"] == 0


def test_opt_outs_can_be_switched_off_and_on(server: Hostile) -> None:
    urls = [server.url(name, "h.test") for name in ("noai", "tdm")]
    assert step_with(disallowed_directives=(), tdm_reservation=False)(rows(list(urls))).kept.num_rows == 2
    assert kept(step_with(tdm_reservation=False)(rows(list(urls)))) == [1]


def test_the_user_agent_says_who_asks(server: Hostile) -> None:
    step_with(user_agent="mymill", contact="https://example.org/crawler")(rows([server.url("good", "h.test")]))
    [agent] = {headers["user-agent"] for _, _, headers in server.seen}
    assert agent.startswith("mymill/") and agent.endswith("(+https://example.org/crawler)")
    assert not any("cookie" in headers or "referer" in headers for _, _, headers in server.seen)


def test_retry_after_holds_for_the_whole_host(server: Hostile) -> None:
    server.extra["busy"] = lambda connection: connection.sendall(
        answer(b"", "503 Busy", Retry_After="0.4") if server.asked["busy"] == 1 else answer()
    )
    result = step_with(per_host=1)(rows([server.url("busy", "h.test"), server.url("good", "h.test")]))
    assert result.kept.num_rows == 2
    times = [moment for moment, path, _ in server.seen if path != "/robots.txt"]
    assert times[1] - times[0] > 0.35


def test_few_requests_at_once_and_far_enough_apart(server: Hostile) -> None:
    urls = [server.url(f"slow_{number}", host) for host in ("a.test", "b.test") for number in range(6)]
    assert step_with(per_host=2, robots_txt=False)(rows(list(urls))).kept.num_rows == 12
    assert dict(server.most_at_once) == {f"a.test:{server.port}": 2, f"b.test:{server.port}": 2}
    server.seen.clear()
    urls = [server.url(f"good{number}", "a.test") for number in range(4)]
    assert step_with(host_interval_s=0.1, robots_txt=False)(rows(list(urls))).kept.num_rows == 4
    times = sorted(moment for moment, _, _ in server.seen)
    assert all(later - earlier > 0.08 for earlier, later in pairwise(times))


def test_crawl_delay_and_impatience(server: Hostile) -> None:
    server.robots = answer(b"User-agent: *\nCrawl-delay: 50\n")
    result = step_with(turn_timeout_s=1)(rows([server.url(f"good{number}", "a.test") for number in range(3)]))
    assert result.kept.num_rows == 1 and set(reasons(result).values()) == {"host_busy"}
    urls = [server.url(f"slow_{number}", "b.test") for number in range(9)]
    result = step_with(per_host=1, turn_timeout_s=0.3, robots_txt=False)(rows(list(urls)))
    assert 1 < result.kept.num_rows < 6 and set(reasons(result).values()) == {"host_busy"}


def test_a_dead_host_costs_a_few_requests(server: Hostile) -> None:
    urls = [server.url(f"status_500?{number}", "dead.test") for number in range(40)]
    urls += [server.url("good", "alive.test")]
    result = step_with(circuit_failures=4, per_host=1, robots_txt=False)(rows(list(urls)))
    assert kept(result) == [40] and set(reasons(result).values()) == {"http_500", "host_unavailable"}
    assert server.asked["status_500"] == 4


def test_limits_of_a_batch(server: Hostile) -> None:
    big = jpeg(1, 512)
    server.extra["big"] = lambda connection: connection.sendall(answer(big))
    urls = [server.url(f"big?{number}", "h.test") for number in range(6)]
    limit = int(2.5 * len(big))
    result = step_with(max_bytes=len(big), max_batch_bytes=limit)(rows(list(urls)))
    assert result.kept.num_rows == 2 and set(reasons(result).values()) == {"batch_full"}
    # What is rejected gives its bytes back.
    urls = [server.url("html", f"h{n}.test") for n in range(99)] + [server.url("big", "h.test")]
    result = step_with(max_bytes=len(big), max_batch_bytes=len(big) + 99, concurrency=1)(rows(list(urls)))
    assert kept(result) == [99]
    assert reasons(step_with(max_bytes=len(big) - 1)(rows(urls[-1:]))) == {0: "image_too_many_bytes"}


def test_pixels_are_counted_before_anything_is_decoded(server: Hostile) -> None:
    server.extra["large"] = lambda connection: connection.sendall(answer(huge_png(5000)))
    found = step_with(max_pixels=5000 * 5000 - 1)(rows([server.url("large", "h.test")]))
    assert reasons(found) == {0: "image_too_large"}
    damaged = [server.url("broken_jpeg", "h.test")]
    assert step_with(check="header")(rows(list(damaged))).kept.num_rows == 1


def test_what_decides_nothing_is_not_in_the_fingerprint() -> None:
    assert step_with(concurrency=1, per_host=9).fingerprint() == step_with().fingerprint()
    assert step_with(max_redirects=1).fingerprint() != step_with().fingerprint()


def test_within_a_running_event_loop(server: Hostile) -> None:
    async def caller() -> StepResult:
        return step_with()(rows([server.url("good", "h.test")]))

    assert asyncio.run(caller()).kept.num_rows == 1
