"""Which network addresses may be connected to. The check is made on the address of the very socket, after all name
resolution, so that no name, redirect or changed answer of a name server leads round it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
AddressInfo = tuple[Any, ...]
"""(family, type, protocol, canonical name, socket address), as `socket.getaddrinfo` gives it."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""The well-known prefix of RFC 6052: the last 32 bits are the IPv4 address that is really reached."""
_TRANSLATED = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "::ffff:0:0:0/96")
)
"""Local-use NAT64, 6to4, Teredo, IPv4-compatible and translated addresses: an IPv4 address hides in them."""


class AddressRefusedError(OSError):
    """An address that may not be connected to.

    Args:
        address: as it was about to be used.
        kind: what it is ("a private address").
    """

    def __init__(self, address: str, kind: str) -> None:
        super().__init__("address refused")
        self.address = address
        self.kind = kind


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """CIDR texts as networks."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def refusal(address: str, allowed: Sequence[Network] = ()) -> str | None:
    """What makes `address` one that may not be connected to ("a loopback address"), or None where it may.

    Only globally reachable unicast addresses may. An address through NAT64 is judged by the IPv4 address behind it;
    other addresses that hide an IPv4 address are refused.

    Args:
        address: a numeric IPv4 or IPv6 address, possibly with a scope (`fe80::1%eth0`).
        allowed: networks that may be connected to in any case.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "no numeric address"
    if any(parsed in network for network in allowed if network.version == parsed.version):
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return "an IPv4-mapped address"
        if parsed in _NAT64:
            behind = refusal(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)), allowed)
            return None if behind is None else f"{behind} behind NAT64"
        if parsed.is_unspecified or parsed.is_loopback:
            return _kind(parsed)
        if any(parsed in network for network in _TRANSLATED):
            return "an address that hides another"
        if parsed.is_site_local:
            return "a site-local address"
    return _kind(parsed)


def _kind(address: Address) -> str | None:
    kinds = (
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (not address.is_global, "a private or reserved address"),
    )
    return next((kind for holds, kind in kinds if holds), None)


def checked_sockets(allowed: Sequence[Network]) -> Callable[[AddressInfo], socket.socket]:
    """What opens sockets for connections, and refuses to for addresses that may not be connected to.

    Raises (the function returned):
        AddressRefusedError: so it is.
    """

    def open_socket(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, place = info
        refused = refusal(place[0], allowed)
        if refused is not None:
            raise AddressRefusedError(place[0], refused)
        return socket.socket(family, kind, protocol)

    return open_socket
