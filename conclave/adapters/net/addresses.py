"""What kind of address an address is, whatever form it comes in."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_UNIQUE_LOCAL = IPv6Network("fc00::/7")
_REFUSED_V4 = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("100.100.100.200/32"),  # Alibaba's metadata service
    IPv4Network("168.63.129.16/32"),  # Azure's host services, on a public address
)
_REFUSED_V6 = (
    IPv6Network("2001::/23"),
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),
    IPv6Network("fd00:ec2::/32"),  # Amazon's metadata, DNS and time services
    IPv6Network("fd20:ce::254/128"),  # Google's metadata service
    IPv6Network("fd00:c1::a9fe:a9fe/128"),  # Oracle's
    IPv6Network("fd00:42::42/128"),  # Scaleway's
    IPv6Network("fd00:a9fe:a9fe::1/128"),  # Akamai's
    IPv6Network("fd00:100::100:200/128"),  # Alibaba's
)
"""Never a destination: tunnels that carry another address, link-local ranges and clouds' own."""


def parse_address(text: str) -> Address | None:
    """Return an address with what is mapped into IPv6 taken out; None for anything else."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_never_a_destination(address: Address) -> bool:
    """Whether nobody has business there. Loopback is not judged here."""
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return True
    if isinstance(address, IPv4Address):
        return address.is_reserved or any(address in network for network in _REFUSED_V4)
    if address not in _GLOBAL_UNICAST and address not in _UNIQUE_LOCAL:
        return True  # IPv4-compatible, SIIT, local NAT64, discard, site-local, unassigned
    return any(address in network for network in _REFUSED_V6)


def is_public(address: Address) -> bool:
    """Whether the whole internet may be meant by it."""
    return address.is_global and not address.is_reserved


def is_local(address: Address) -> bool:
    """Whether the address is this machine's: only then can a socket be bound to it."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
