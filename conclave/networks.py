"""Internet addresses and networks, read and compared."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")


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
    """Read a network or a lone address, which becomes /32 or /128; host bits are dropped.

    Raises `ValueError` naming what cannot be read; a network has no zone.
    """
    if "%" in text:
        raise ValueError(f"{text.strip()!r} has a zone, which no network has")
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
