"""The rules of fetching that need no network: addresses, opt-outs, robots.txt, URLs, order, circuit."""

from __future__ import annotations

import asyncio
import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pipelines.fetch.addresses import AddressRefusedError, checked_sockets, parse_networks, refusal
from pipelines.fetch.config import OPT_OUT_DIRECTIVES, FetchConfig
from pipelines.fetch.faults import FetchFault, passing_fault, status_fault
from pipelines.fetch.hosts import HostBook, Turns
from pipelines.fetch.opt_out import refused_directive
from pipelines.fetch.robots_rules import RobotsRules, for_agent
from pipelines.fetch.urls import by_turns, file_name, origin, parse_url, redirect_url
from schemas.config import parse_config
from schemas.errors import ConfigError


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.5.5", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "224.0.0.1", "239.1.1.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b:1::808:808", "2002:7f00:1::", "2001:0:1:2::3", "::ffff:0:127.0.0.1", "127.1", "localhost", ""),
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert refusal(address)
    with pytest.raises(AddressRefusedError):
        checked_sockets(())((2, 1, 6, "", (address, 80)))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_not(address: str) -> None:
    assert refusal(address) is None


def test_an_allowed_network_is_that_network_alone() -> None:
    allowed = parse_networks(["10.0.0.0/8", "::1/128"])
    assert refusal("10.2.3.4", allowed) is None and refusal("::1", allowed) is None
    assert refusal("64:ff9b::10.0.0.1", allowed) is None
    assert refusal("192.168.0.1", allowed) and refusal("::ffff:10.2.3.4", allowed)


@given(st.integers(0, 2**32 - 1))
def test_nothing_private_passes_in_any_disguise(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    if not plain.is_global or plain.is_multicast:
        for hidden in (0, 0xFFFF << 32, 0x64FF9B << 96, 0x2002 << 112):
            shifted = number << 80 if hidden == 0x2002 << 112 else number
            assert refusal(str(ipaddress.IPv6Address(hidden + shifted)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["noai"], "noai"),
        (["noindex, NoImageAI"], "noindex"),
        (["index, follow"], None),
        (["otherbot: noai"], None),
        (["otherbot: noai, noimageai"], None),
        (["otherbot: noai, EditMill: noml"], "noml"),
        (["*: noai"], "noai"),
        (["unavailable_after: Sun, 25 Jun 2034 15:00:00 PST, noai"], "noai"),
        (["max-snippet: 5, noai"], "noai"),
        (["nofollow", "editmill: none"], "none"),
        (["noaiplease"], None),
        ([""], None),
    ],
)
def test_opt_out_headers(values: list[str], expected: str | None) -> None:
    assert refused_directive(values, "editmill", OPT_OUT_DIRECTIVES) == expected


ROBOTS = """
User-agent: *
Disallow: /private/
Allow: /private/open/
Disallow: /*.gif$

User-agent: otherbot
Disallow: /

User-agent: EditMill
User-agent: thirdbot
Disallow: /no-mill/
Crawl-delay: 2
"""


def test_robots_txt_by_rfc_9309() -> None:
    ours, others = RobotsRules("editmill", ROBOTS), RobotsRules("somebot", ROBOTS)
    ours.check("http://h/private/x.jpg")
    assert ours.crawl_delay_s == 2 and others.crawl_delay_s == 0
    for rules, path in ((ours, "/no-mill/x"), (others, "/private/x"), (others, "/a/b.gif")):
        with pytest.raises(FetchFault, match=r"robots\.txt"):
            rules.check(f"http://h{path}")
    for path in ("/private/open/x", "/b.gif?x", "/", "/no-mill/x"):
        others.check(f"http://h{path}")
    RobotsRules("editmill", "<html>not found</html>").check("http://h/x")
    for name, disallowed in (
        ("EDITMILL/1.0", True),
        ("editmill*", True),
        ("*", True),
        ("editmill2", False),
        ("", False),
    ):
        rules = RobotsRules("editmill", f"User-agent: {name}\nDisallow: /")
        if disallowed:
            with pytest.raises(FetchFault):
                rules.check("http://h/x")
        else:
            rules.check("http://h/x")


def test_a_robots_txt_cannot_keep_the_parser_busy() -> None:
    crawlers = "".join(f"User-agent: bot{number}\n" for number in range(15_000))
    text = crawlers + "User-agent: editmill\n" + "Disallow: /a*a*a*a*a*a*a*a*b\n" * 9_000
    started = time.monotonic()
    rules = RobotsRules("editmill", text)
    rules.check("http://h/" + "a" * 4000)
    assert time.monotonic() - started < 5
    assert for_agent("User agent editmill # us\nDisallow: /", "editmill") == "user-agent: editmill\nDisallow: /"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" http://EXAMPLE.com/a b?c=d#e ", "http://example.com/a%20b?c=d"),
        ("http://h.com/a%2Fb?sig=%2F+x", "http://h.com/a%2Fb?sig=%2F+x"),
        ("http://user:secret@h.com/x", "http://h.com/x"),
        ("https://é.com/é.jpg", "https://xn--9ca.com/%C3%A9.jpg"),
    ],
)
def test_urls_as_they_are_requested(text: str, expected: str) -> None:
    assert str(parse_url(text)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "url_missing"),
        ("  ", "url_missing"),
        ("ftp://h/x", "url_scheme"),
        ("file:///etc/passwd", "url_scheme"),
        ("data:image/png;base64,AA", "url_scheme"),
        *((text, "url_invalid") for text in ("x.jpg", "//h/x", "http:///x", "http://h:99999/", "http://[zz/")),
        *((text, "url_invalid") for text in ("http://a b/x", "http://\udc80/", "http://a\\b/", "http://h:x/")),
    ],
)
def test_urls_that_are_refused(text: str | None, reason: str) -> None:
    with pytest.raises(FetchFault) as caught:
        parse_url(text)
    assert caught.value.reason == reason


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_reason(text: str) -> None:
    for read in (parse_url, lambda t: redirect_url(URL("http://h/a/b"), t)):
        try:
            assert read(text).scheme in ("http", "https")
        except FetchFault as fault:
            assert fault.reason in ("url_missing", "url_invalid", "url_scheme", "redirect_invalid")


def test_names_and_origins() -> None:
    assert redirect_url(URL("http://h/a/b.jpg"), "../c.png?x") == URL("http://h/c.png?x")
    assert origin(URL("http://H.com./x")) == origin(URL("http://h.com:80/y")) != origin(URL("https://h.com/y"))
    assert file_name(URL("http://h/a/b%20c.JPEG?x"), "png") == "b_c.png"
    assert file_name(URL("http://h/"), "jpg") == file_name(URL("http://h/..."), "jpg") == "image.jpg"


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_hosts_take_turns_and_nobody_is_left_out(hosts: list[str]) -> None:
    order = list(by_turns((host, place) for place, host in enumerate(hosts)))
    assert sorted(order) == list(range(len(hosts)))
    first = [hosts[place] for place in order[: len(set(hosts))]]
    assert len(set(first)) == len(first)


def test_which_statuses_may_pass() -> None:
    assert [status for status in range(100, 600) if status_fault(status, None).retryable] == [
        *(408, 425, 429, 500, 502, 503, 504)
    ]
    assert status_fault(403, None).reason == "http_403" and status_fault(999, None).reason == "http_unknown_status"
    assert not status_fault(404, None).blames_host


def test_a_failing_host_is_left_alone_and_tried_once() -> None:
    async def story() -> None:
        turns = Turns(FetchConfig(circuit_failures=2, circuit_open_s=0.1), HostBook())
        for _ in range(2):
            async with turns.turn("h") as host:
                turns.failed(host, passing_fault("timeout", "late"))
        with pytest.raises(FetchFault, match="2 times in a row, last with timeout"):
            async with turns.turn("h"):
                pass
        async with turns.turn("other"):
            pass
        await asyncio.sleep(0.12)
        began: list[str] = []

        async def late() -> None:
            async with turns.turn("h"):
                began.append("late")

        async with turns.turn("h") as host:
            waiting = asyncio.create_task(late())
            await asyncio.sleep(0.02)
            assert not began
            turns.succeeded(host)
        await waiting
        assert began == ["late"] and not host.probing

    asyncio.run(story())


def test_the_config_refuses_nonsense() -> None:
    for values, message in (
        ({"user_agent": "Mozilla/5.0 (X)"}, "product token"),
        ({"contact": "a\r\nX-Evil: 1"}, "one line"),
        ({"allow_networks": ["10.0.0.1/8"]}, "no network"),
        ({"max_bytes": 2**20, "max_batch_bytes": 1}, "below max_bytes"),
        ({"deadline_s": 0}, "greater than 0"),
        ({"dedline_s": 5}, "deadline_s"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config(FetchConfig, values, "test")
