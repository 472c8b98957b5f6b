"""The headers of every answer, whoever gives it (platform.md, 0.5)."""

from __future__ import annotations

from starlette.types import Message, Scope

EXPOSED = (
    "X-Request-ID",
    "X-Response-Time",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Total-Count",
)
"""What scripts of other origins may read, where they may call."""
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_UNLESS_SET = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Pages bring a policy that lets their own scripts run; their assets may be kept."""
_TLS_ONLY = (b"strict-transport-security", b"max-age=31536000")


def complete(message: Message, scope: Scope, request_id: str, seconds: float) -> None:
    """Add what is missing to the head of an answer."""
    headers: list[tuple[bytes, bytes]] = list(message["headers"])
    present = {name for name, _ in headers}
    headers += (
        (b"x-request-id", request_id.encode("latin-1")),
        (b"x-response-time", f"{seconds * 1000:.1f}ms".encode()),
    )
    headers += _ALWAYS
    headers += [pair for pair in _UNLESS_SET if pair[0] not in present]
    if scope["scheme"] == "https":
        headers.append(_TLS_ONLY)
    told: dict[str, str] = scope.get("answer_headers", {})
    for name, value in told.items():
        headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
    message["headers"] = headers
