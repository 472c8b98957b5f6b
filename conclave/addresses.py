"""Internet addresses: whose request it is behind proxies, and which addresses rules refuse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from schema.domain.security import IpAction, IpRule

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN_ADDRESS = "0.0.0.0"
"""Stands for whoever a trusted proxy does not name readably: no loopback, in no usual network."""
_MAPPED = IPv6Network("::ffff:0:0/96")
_VERDICTS_KEPT = 4096


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """Read an address, also one in brackets or with a port; IPv4 within IPv6 counts as IPv4."""
    name = text.strip()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    try:
        found = ip_address(name)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def parse_network(text: str) -> Network:
    """Read a network or a lone address. Raises `ValueError` naming what cannot be read."""
    try:
        found = ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{text.strip()!r} is no address and no network") from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
    return found


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read a comma list of networks. Raises `ValueError` naming the first that cannot be read."""
    return tuple(parse_network(part) for part in text.split(",") if part.strip())


class Networks:
    """Networks, ready to be asked often."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._masked = tuple(
            (network.version, int(network.netmask), int(network.network_address))
            for network in networks
        )

    def __bool__(self) -> bool:
        return bool(self._masked)

    def __contains__(self, address: Address) -> bool:
        version, number = address.version, int(address)
        return any(kind == version and number & mask == start for kind, mask, start in self._masked)


class AddressFilter:
    """IP rules, compiled: loopback passes; a deny refuses; any allow refuses the rest."""

    def __init__(self, rules: Sequence[IpRule]) -> None:
        self._denied = _networks(rules, IpAction.DENY)
        self._allowed = _networks(rules, IpAction.ALLOW)
        self._verdicts: dict[str, bool] = {}

    def refuses(self, address: str) -> bool:
        """Whether a caller from there is turned away."""
        known = self._verdicts.get(address)
        if known is None:
            if len(self._verdicts) >= _VERDICTS_KEPT:
                self._verdicts.clear()
            known = self._verdicts[address] = self._judge(address)
        return known

    def _judge(self, text: str) -> bool:
        address = parse_address(text)
        if address is None:
            return bool(self._allowed)
        if address.is_loopback:
            return False
        if address in self._denied:
            return True
        return bool(self._allowed) and address not in self._allowed


def _networks(rules: Sequence[IpRule], action: IpAction) -> Networks:
    return Networks(parse_network(rule.cidr) for rule in rules if rule.action is action)


def would_refuse(rules: Sequence[IpRule], address: str) -> bool:
    """Whether these rules, were they in force, would turn away a caller from `address`."""
    return AddressFilter(rules).refuses(address)


class Proxies:
    """The proxies whose word on the caller's address counts."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._trusted = Networks(networks)

    def __bool__(self) -> bool:
        return bool(self._trusted)

    def trusts(self, peer: str) -> bool:
        """Whether `peer` is one of them."""
        address = parse_address(peer)
        return address is not None and address in self._trusted

    def caller(self, peer: str, forwarded: str | None) -> str:
        """Return the rightmost address of X-Forwarded-For that is no trusted proxy.

        What stands left of it the caller may have written itself. An entry that cannot be read
        is nobody we know: `UNKNOWN_ADDRESS`.
        """
        if not forwarded or not self.trusts(peer):
            return peer
        named = peer
        for entry in reversed(forwarded.split(",")):
            address = parse_address(entry)
            if address is None:
                return UNKNOWN_ADDRESS
            named = str(address)
            if address not in self._trusted:
                break
        return named
