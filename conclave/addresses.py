"""Whose request it is behind proxies, and which addresses IP rules refuse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from conclave.networks import Network, Networks, parse_address, parse_network
from schema.domain.security import IpAction

UNKNOWN_ADDRESS = "0.0.0.0"
"""Stands for whoever a trusted proxy does not name readably: no loopback, in no usual network."""
_VERDICTS_KEPT = 4096


class Judged(Protocol):
    """What is judged by: a network in its plain form, and what a match does."""

    @property
    def cidr(self) -> str:
        """The network."""
        ...

    @property
    def action(self) -> IpAction:
        """Allow or deny."""
        ...


class AddressFilter:
    """IP rules, compiled: loopback passes; a deny refuses; any allow refuses the rest."""

    def __init__(self, rules: Sequence[Judged]) -> None:
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


def _networks(rules: Sequence[Judged], action: IpAction) -> Networks:
    return Networks(parse_network(rule.cidr) for rule in rules if rule.action is action)


def would_refuse(rules: Sequence[Judged], address: str) -> bool:
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
