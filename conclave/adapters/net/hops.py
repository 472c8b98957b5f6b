"""One hop of an httpx-like client: judged, pinned, and seen as a redirect where it is one."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

from conclave.adapters.net.guard import Errand, OutgoingGuard, PinnedTarget
from conclave.adapters.net.redirects import Origin, judge_redirect

_LAST = "guarded_origin"
"""The client copies a request's extensions to the one that follows its redirect."""


class Hop(Protocol):
    """A request of httpx or of httpx2."""

    method: str
    headers: Any  # each its own class of MutableMapping[str, str]
    extensions: dict[str, Any]

    @property
    def url(self) -> object:
        """The URL, whole as text."""
        ...


async def judge(guard: OutgoingGuard, request: Hop, errand: Errand) -> PinnedTarget:
    """Return where a request may go. Raises `UrlRefused`."""
    target = await guard.resolve(
        str(request.url),
        field=errand.field,
        purpose=errand.purpose,
        administrator=errand.administrator,
    )
    origin = Origin(target.scheme, target.host, target.port)
    before: object = request.extensions.get(_LAST)
    if isinstance(before, Origin):
        headers: MutableMapping[str, str] = request.headers
        has_body = request.method not in {"GET", "HEAD"}
        judge_redirect(before, origin, headers, has_body=has_body, field=errand.field)
    request.extensions[_LAST] = origin
    return target


def pinned_extensions(request: Hop, target: PinnedTarget) -> dict[str, Any]:
    """Return the extensions that make TLS ask for the name instead of the address."""
    return {**request.extensions, "sni_hostname": target.host}
