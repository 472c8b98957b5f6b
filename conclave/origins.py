"""Web origins: scheme, host and port, as browsers compare them."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_SECURE = {"https", "wss"}

Origin = tuple[bool, str, int]
"""Secure or not, host, port."""


@lru_cache(maxsize=1024)
def parse_origin(text: str) -> Origin | None:
    """Read `scheme://host[:port]`; None for anything else, `null` included."""
    try:
        parts = urlsplit(text)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    if not parts.hostname or parts.username is not None or parts.path not in {"", "/"}:
        return None
    return parts.scheme in _SECURE, parts.hostname.lower(), port


def parse_origins(text: str) -> tuple[Origin, ...]:
    """Read a comma list of origins. Raises `ValueError` naming the first that cannot be read."""
    found: list[Origin] = []
    for part in filter(None, map(str.strip, text.split(","))):
        origin = parse_origin(part)
        if origin is None:
            raise ValueError(f"{part!r} is no origin such as https://app.example:8443")
        found.append(origin)
    return tuple(found)
