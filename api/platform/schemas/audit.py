"""The audit log as this dialect writes it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, JsonValue, StringConstraints

from api.platform.schemas.fields import Id, Timestamp
from conclave.audit.commands import AuditFilter
from schema.domain.audit import ActorType, AuditEntry

_Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class AuditOut(BaseModel):
    """Who did what, when, from where; `changes` is {field: {before, after}}, never secrets."""

    id: int
    action: str
    resource_type: str
    resource_id: str | None
    actor_type: ActorType
    actor_id: int | None
    details: str | None
    changes: dict[str, JsonValue]
    ip_address: str | None
    request_id: str | None
    created_at: Timestamp

    @classmethod
    def from_domain(cls, entry: AuditEntry) -> AuditOut:
        """Render an entry."""
        return cls.model_validate(entry.model_dump())


async def audit_filter(
    action: Annotated[_Word | None, Query(description="Such as `agent_created`")] = None,
    resource_type: Annotated[_Word | None, Query(description="Such as `agent`")] = None,
    actor_id: Annotated[Id | None, Query(description="The user's id, or the API key's")] = None,
    since: Annotated[Timestamp | None, Query(description="From then on")] = None,
    until: Annotated[Timestamp | None, Query(description="Before then")] = None,
) -> AuditFilter:
    """Read which entries are asked for."""
    return AuditFilter(
        action=action, resource_type=resource_type, actor_id=actor_id, since=since, until=until
    )
