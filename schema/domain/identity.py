"""Who asks, and with which rights."""

from __future__ import annotations

from enum import StrEnum

from schema.domain.base import Shape


class PrincipalKind(StrEnum):
    """Where a principal's authority comes from."""

    LOCAL = "local"
    USER = "user"
    API_KEY = "api_key"
    GATEWAY = "gateway"
    WORKER_NODE = "worker_node"
    TEMPORAL = "temporal"
    SYSTEM = "system"


class Role(StrEnum):
    """What a user may do: read; read and write; everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Scope(StrEnum):
    """What an API key may do, within its owner's role."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    WORKERS = "workers"


_ROLES = list(Role)


class Principal(Shape):
    """A caller whose credentials hold.

    `key` names it in idempotency records and as an owner: an API key acts for the user it belongs
    to. `role` is what it may do at most, scopes already counted in; None where it may nothing
    but what `kind` alone allows (a worker node).
    """

    kind: PrincipalKind
    id: int | None = None
    """The user's id, or the API key's."""
    user_id: int | None = None
    session_id: int | None = None
    role: Role | None = None
    scopes: frozenset[Scope] | None = None
    """None for whoever is not limited by scopes."""
    limited: str | None = None
    """Why it reaches /api/v1/auth/* only: `password_expired` or `mfa_setup_required`."""

    @property
    def is_admin(self) -> bool:
        """Whether everything may be seen and done."""
        return self.role is Role.ADMIN

    @property
    def key(self) -> str:
        """A stable name: `local`, or the kind and its id."""
        if self.user_id is not None:
            return f"{PrincipalKind.USER.value}:{self.user_id}"
        return self.kind.value if self.id is None else f"{self.kind.value}:{self.id}"

    def has(self, role: Role) -> bool:
        """Whether the principal's role is at least this one."""
        return self.role is not None and _ROLES.index(self.role) >= _ROLES.index(role)


LOCAL_PRINCIPAL = Principal(kind=PrincipalKind.LOCAL, role=Role.ADMIN)
GATEWAY_PRINCIPAL = Principal(kind=PrincipalKind.GATEWAY, role=Role.ADMIN)
TEMPORAL_PRINCIPAL = Principal(kind=PrincipalKind.TEMPORAL, role=Role.OPERATOR)
"""Whoever sends a signal in Temporal's own UI or CLI: it carries no identity."""
SYSTEM_PRINCIPAL = Principal(kind=PrincipalKind.SYSTEM, role=Role.ADMIN)
