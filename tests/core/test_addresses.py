"""Whose address counts behind proxies, and which addresses IP rules refuse."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from conclave.addresses import UNKNOWN_ADDRESS, Proxies, would_refuse
from conclave.networks import parse_networks
from conclave.settings import Settings
from schema.domain.security import IpAction, IpRule

PROXIES = Proxies(parse_networks("10.0.0.0/8, 127.0.0.1, fd00::/8"))


def rules(*texts: str) -> list[IpRule]:
    """`-` denies, `+` allows."""
    return [
        IpRule(
            id=number,
            cidr=text[1:],
            action=IpAction.DENY if text[0] == "-" else IpAction.ALLOW,
            description=None,
            created_by=None,
            created_at=datetime.now(UTC),
        )
        for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("203.0.113.5", None, "203.0.113.5"),
        ("203.0.113.5", "127.0.0.1", "203.0.113.5"),
        ("10.1.1.1", None, "10.1.1.1"),
        ("10.1.1.1", "", "10.1.1.1"),
        ("10.1.1.1", "203.0.113.5", "203.0.113.5"),
        ("127.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.1.1.1", "127.0.0.1, 203.0.113.5", "203.0.113.5"),
        ("10.1.1.1", "198.51.100.1, 203.0.113.5, 10.2.2.2", "203.0.113.5"),
        ("10.1.1.1", "10.9.9.9, 10.2.2.2", "10.9.9.9"),
        ("10.1.1.1", "203.0.113.5:4711", "203.0.113.5"),
        ("10.1.1.1", "[2001:db8::5]:4711", "2001:db8::5"),
        ("10.1.1.1", "::ffff:203.0.113.5", "203.0.113.5"),
        ("::ffff:10.1.1.1", "203.0.113.5", "203.0.113.5"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
        ("10.1.1.1", "unknown", UNKNOWN_ADDRESS),
        ("10.1.1.1", "127.0.0.1, _hidden", UNKNOWN_ADDRESS),
        ("10.1.1.1", "203.0.113.5, garbage, 10.2.2.2", UNKNOWN_ADDRESS),
    ],
)
def test_the_rightmost_address_that_is_no_trusted_proxy_counts(peer, forwarded, caller):
    assert PROXIES.caller(peer, forwarded) == caller


@pytest.mark.parametrize(
    ("listed", "address", "refused"),
    [
        ((), "203.0.113.5", False),
        (("-203.0.113.0/24",), "203.0.113.5", True),
        (("-203.0.113.0/24",), "203.0.114.5", False),
        (("+203.0.113.0/24",), "203.0.113.5", False),
        (("+203.0.113.0/24",), "203.0.114.5", True),
        (("+203.0.113.0/24", "-203.0.113.5/32"), "203.0.113.5", True),
        (("-203.0.113.5/32", "+203.0.113.0/24"), "203.0.113.6", False),
        (("+203.0.113.0/24",), "127.0.0.1", False),
        (("-127.0.0.0/8", "-::1/128"), "127.0.0.1", False),
        (("-0.0.0.0/0",), "::1", False),
        (("-203.0.113.0/24",), "::ffff:203.0.113.5", True),
        (("-::ffff:203.0.113.0/120",), "203.0.113.5", True),
        (("-2001:db8::/32",), "2001:db8::1", True),
        (("-2001:db8::/32",), "203.0.113.5", False),
        (("-0.0.0.0/0",), "2001:db8::1", False),
        (("+203.0.113.0/24",), "testclient", True),
        (("-203.0.113.0/24",), "testclient", False),
        (("+203.0.113.0/24",), UNKNOWN_ADDRESS, True),
    ],
)
def test_a_deny_refuses_and_an_allow_refuses_the_rest(listed, address, refused):
    assert would_refuse(rules(*listed), address) is refused


@pytest.mark.parametrize("name", ["trusted_proxies", "cors_origins"])
def test_lists_that_cannot_be_read_stop_the_start(name):
    with pytest.raises(ValidationError, match="nonsense"):
        Settings.model_validate({name: "nonsense"})


@pytest.mark.parametrize("value", ["https://app.example/path", "*", "app.example", "null"])
def test_only_whole_origins_are_taken(value):
    with pytest.raises(ValidationError):
        Settings(cors_origins=value)
