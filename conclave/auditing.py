"""Writing the audit log: an entry stands in the transaction of the change it tells of.

What reads, seals and verifies the log is `conclave.audit`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import JsonValue
from sqlalchemy import BigInteger, BindParameter, Text, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from conclave.caller import current_caller
from conclave.db import Transaction
from schema.domain.audit import ActorType
from schema.domain.identity import Principal, PrincipalKind

_ACTORS = {
    PrincipalKind.LOCAL: ActorType.USER,
    PrincipalKind.USER: ActorType.USER,
    PrincipalKind.GATEWAY: ActorType.USER,
    PrincipalKind.API_KEY: ActorType.API_KEY,
    PrincipalKind.WORKER_NODE: ActorType.API_KEY,
}

_LONGEST_VALUE = 500
"""Characters of a value, as JSON where it is not a text."""
_HIDDEN = "***"
_IS_SECRET = re.compile(
    r"(secret|token|password|passwd|passphrase|credentials?|authorization"
    r"|(api|private|access|secret|signing|encryption)[_-]?key)$",
    re.IGNORECASE,
)


def entry_ctes(source: str, resource_id: str) -> str:
    """Return two CTEs, `audited` and `audit_queued`: an entry for each row of `source`, and its
    place among those that wait for a seal. `resource_id` is SQL over that row.

    For statements that must store an entry without another round trip; their parameters are
    `entry_parameters()`, the values `entry_values(...)`.
    """
    return f"""audited AS (
  INSERT INTO audit_entries (action, resource_type, resource_id, actor_type, actor_id,
    details, changes, ip_address, request_id)
  SELECT :audit_action, :audit_resource_type, {resource_id}, :audit_actor_type, :audit_actor_id,
    :audit_details, :audit_changes, :audit_ip_address, :audit_request_id
  FROM {source}
  RETURNING id
), audit_queued AS (
  INSERT INTO audit_waiting (entry_id) SELECT id FROM audited
)"""


def entry_parameters() -> list[BindParameter[object]]:
    """Return the typed parameters of `entry_ctes`."""
    texts = ("action", "resource_type", "actor_type", "details", "ip_address", "request_id")
    return [
        *(bindparam(f"audit_{name}", type_=Text) for name in texts),
        bindparam("audit_actor_id", type_=BigInteger),
        bindparam("audit_changes", type_=JSONB),
    ]


def entry_values(
    action: str,
    resource_type: str,
    *,
    details: str | None = None,
    changes: Mapping[str, JsonValue] | None = None,
    principal: Principal | None = None,
) -> dict[str, object]:
    """Return the values of `entry_ctes`: the arguments of `AuditLog.record`, and the caller."""
    caller = current_caller.get()
    actor = principal or caller.principal
    return {
        "audit_action": action,
        "audit_resource_type": resource_type,
        "audit_actor_type": _ACTORS.get(actor.kind, ActorType.SYSTEM).value,
        "audit_actor_id": actor.id,
        "audit_details": details,
        "audit_changes": dict(changes or {}),
        "audit_ip_address": caller.ip_address,
        "audit_request_id": caller.request_id,
    }


_RECORD = text(
    f"WITH {entry_ctes('(SELECT) AS once', ':resource_id')} SELECT id FROM audited"
).bindparams(*entry_parameters(), bindparam("resource_id", type_=Text))


def changed(
    before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """Return {field: {"before", "after"}} for the fields whose values differ.

    Long values are told by their length, and what a field's name says is secret by `***`, at
    any depth; `null` stays `null`.
    """
    return {
        name: {"before": _told(name, before.get(name)), "after": _told(name, after.get(name))}
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def _told(name: str, value: JsonValue) -> JsonValue:
    shown = _without_secrets(name, value)
    if isinstance(shown, str):
        return shown if len(shown) <= _LONGEST_VALUE else f"({len(shown)} characters)"
    if isinstance(shown, dict | list):
        length = len(json.dumps(shown, ensure_ascii=False))
        return shown if length <= _LONGEST_VALUE else f"({length} characters of JSON)"
    return shown


def _without_secrets(name: str, value: JsonValue) -> JsonValue:
    if value is not None and _IS_SECRET.search(name):
        return _HIDDEN
    if isinstance(value, dict):
        return {key: _without_secrets(key, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(name, inner) for inner in value]
    return value


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
        values = entry_values(
            action, resource_type, details=details, changes=changes, principal=principal
        )
        values["resource_id"] = None if resource_id is None else str(resource_id)[:255]
        await tx.conn.execute(_RECORD, values)
