"""Networks and the rules on them: their plain form, and whom they keep out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Protocol

from schema.domain.security import IpAction

_MAPPED = IPv6Network("::ffff:0:0/96")


class Rule(Protocol):
    """What is judged by: a network in its plain form, and what a match does."""

    @property
    def cidr(self) -> str:
        """The network."""
        ...

    @property
    def action(self) -> IpAction:
        """Allow or deny."""
        ...


def plain_cidr(text: str) -> str:
    """Return a network in its plain form. Raises ValueError.

    A lone address becomes /32 or /128, host bits are dropped, and what is mapped into IPv6 is
    taken out.
    """
    text = text.strip()
    if "%" in text:
        raise ValueError("a network has no zone")
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        low = IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        network = IPv4Network((low, network.prefixlen - _MAPPED.prefixlen))
    return str(network)


def would_refuse(rules: Sequence[Rule], address: str) -> bool:
    """Whether the rules keep an address out.

    Loopback always passes. A matching deny refuses; else, if there is any allow rule, one of them
    must match. An address that cannot be read passes no rules.
    """
    if not rules:
        return False
    try:
        caller = _address(address)
    except ValueError:
        return True
    if caller.is_loopback:
        return False
    if _any_holds((rule.cidr for rule in rules if rule.action is IpAction.DENY), caller):
        return True
    allowed = [rule.cidr for rule in rules if rule.action is IpAction.ALLOW]
    return bool(allowed) and not _any_holds(allowed, caller)


def _any_holds(cidrs: Iterable[str], caller: IPv4Address | IPv6Address) -> bool:
    return any(caller in ip_network(cidr) for cidr in cidrs)


def _address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.strip().strip("[]").partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
