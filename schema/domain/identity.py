"""Who asks."""

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


class Principal(Shape):
    """A caller. `key` names it in idempotency records and as an owner."""

    kind: PrincipalKind
    id: int | None = None
    is_admin: bool = False

    @property
    def key(self) -> str:
        """A stable name: `local`, or the kind and its id."""
        return self.kind.value if self.id is None else f"{self.kind.value}:{self.id}"


LOCAL_PRINCIPAL = Principal(kind=PrincipalKind.LOCAL, is_admin=True)
