"""Writing the audit log: an entry stands in the transaction of the change it tells of.

What reads, seals and verifies the log is `conclave.audit`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from conclave.caller import current_caller
from conclave.db import Transaction
from schema.domain.identity import Principal, PrincipalKind

_ACTORS = {
    PrincipalKind.LOCAL: "user",
    PrincipalKind.USER: "user",
    PrincipalKind.GATEWAY: "user",
    PrincipalKind.API_KEY: "api_key",
    PrincipalKind.WORKER_NODE: "api_key",
}

# The entry and its place among those that wait for a seal, in one round trip.
_RECORD = text(
    """
    WITH entry AS (
        INSERT INTO audit_entries (action, resource_type, resource_id, actor_type, actor_id,
            details, changes, ip_address, request_id)
        VALUES (:action, :resource_type, :resource_id, :actor_type, :actor_id,
            :details, :changes, :ip_address, :request_id)
        RETURNING id
    )
    INSERT INTO audit_waiting (entry_id) SELECT id FROM entry
    """
).bindparams(bindparam("changes", type_=JSONB))


def changed(
    before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """Return {field: {"before", "after"}} for the fields whose values differ."""
    return {
        name: {"before": before.get(name), "after": after.get(name)}
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


class AuditLog:
    """Appends entries; who and from where is `conclave.caller`'s."""

    async def record(
        self,
        tx: Transaction,
        action: str,
        resource_type: str,
        resource_id: object = None,
        *,
        details: str | None = None,
        changes: Mapping[str, JsonValue] | None = None,
        principal: Principal | None = None,
    ) -> None:
        """Store an entry (`noun_verb`); `changes` never holds a secret's value.

        `principal` names who acted where the request itself shows no credentials yet (a login).
        """
        caller = current_caller.get()
        actor = principal or caller.principal
        await tx.conn.execute(
            _RECORD,
            {
                "action": action,
                "resource_type": resource_type,
                "resource_id": None if resource_id is None else str(resource_id)[:255],
                "actor_type": _ACTORS.get(actor.kind, "system"),
                "actor_id": actor.id,
                "details": details,
                "changes": dict(changes or {}),
                "ip_address": caller.ip_address,
                "request_id": caller.request_id,
            },
        )
