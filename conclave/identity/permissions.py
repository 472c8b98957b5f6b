"""What each role may do, in the words of /auth/me (platform.md, section 0.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schema.domain.identity import Role

_READ = ("read",)
_WRITE = ("create", "update", "delete")
_DECIDE = ("approve", "reject")
_OPERATED = ("agents", "tasks", "workflows", "workers", "files", "memory", "triggers", "webhooks")

_VIEWER: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(_OPERATED, _READ),
    "messages": _READ,
    "cost": _READ,
    "approvals": (*_READ, "create"),
    "notifications": (*_READ, "update"),
}
_OPERATOR: Mapping[str, Sequence[str]] = {
    **_VIEWER,
    **dict.fromkeys(_OPERATED, (*_READ, *_WRITE)),
    "messages": (*_READ, "create"),
    "approvals": (*_READ, "create", *_DECIDE),
}
_ADMIN: Mapping[str, Sequence[str]] = {
    **_OPERATOR,
    "users": (*_READ, "create", "update", "manage"),
    "workers": (*_READ, *_WRITE, "approve", "manage"),
    "settings": (*_READ, "update", "manage"),
    "audit": _READ,
    "secrets": (*_READ, *_WRITE, "manage"),
    "ssh": (*_READ, *_WRITE, "connect", "manage"),
    "notifications": (*_READ, *_WRITE, "manage"),
    "cost": (*_READ, "update", "manage"),
    "security": (*_READ, *_WRITE, "manage"),
    "circuit_breakers": (*_READ, "create", "manage"),
}
_BY_ROLE = {Role.VIEWER: _VIEWER, Role.OPERATOR: _OPERATOR, Role.ADMIN: _ADMIN}


def permissions_of(role: Role | None) -> Sequence[str]:
    """Return `resource:action` strings in order."""
    if role is None:
        return []
    return sorted(
        f"{resource}:{action}" for resource, actions in _BY_ROLE[role].items() for action in actions
    )
