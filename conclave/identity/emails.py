"""Email addresses: their syntax, and the one form they are compared in."""

from __future__ import annotations

import re

MAX_EMAIL = 254
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@{_LABEL}(?:\.{_LABEL})+")


def normal_email(text: str) -> str:
    """Return an address in lower case. Special-use domains are fine.

    Raises ValueError where it is none: ASCII, a dot in the domain, nothing quoted.
    """
    address = text.strip(" ").lower()
    found = _ADDRESS.fullmatch(address) if len(address) <= MAX_EMAIL else None
    if found is None or len(found["local"]) > 64:
        raise ValueError("value is not a valid email address")
    return address


def local_part(email: str) -> str:
    """Return what stands before the @."""
    return email.partition("@")[0]
