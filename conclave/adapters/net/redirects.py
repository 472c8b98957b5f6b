"""What may follow a redirect: the same rule for every HTTP client."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import NamedTuple

from conclave.errors import UrlRefused

MAX_REDIRECTS = 5
_CARRIED = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    }
)
"""Headers that go to another host too: none that could be a credential."""


class Origin(NamedTuple):
    """Who is spoken to."""

    scheme: str
    host: str
    port: int | None


def judge_redirect(
    before: Origin,
    after: Origin,
    headers: MutableMapping[str, str],
    *,
    has_body: bool,
    field: str,
) -> None:
    """Take from `headers` what another host must not see.

    Raises `UrlRefused` where the redirect leaves https, or would carry a body to another host.
    """
    if before.scheme == "https" and after.scheme != "https":
        raise UrlRefused(field, "A redirect from https to http is not followed.")
    if after in {before, _over_tls(before)}:
        return
    if has_body:
        raise UrlRefused(field, "A redirect that takes the body to another host is not followed.")
    for name in [name for name in headers if name.lower() not in _CARRIED]:
        del headers[name]


def _over_tls(origin: Origin) -> Origin:
    """Return where a plain host sends everybody to who should have come by https."""
    return Origin("https", origin.host, 443) if origin[::2] == ("http", 80) else origin
