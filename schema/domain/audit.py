"""The audit log: what an entry says, how a seal covers entries, and what verifying found."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from schema.domain.base import Shape


class ActorType(StrEnum):
    """What kind of caller acted; without AUTH_MODE=required a user has no id."""

    USER = "user"
    AGENT = "agent"
    SYSTEM = "system"
    API_KEY = "api_key"


class AuditEntry(Shape):
    """Who did what, when, from where. `changes` is {field: {"before", "after"}}."""

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
    created_at: datetime


class SealableEntry(Shape):
    """An entry as seals hash it: what the database holds, `changes` as it writes JSON itself."""

    id: int
    action: str
    resource_type: str
    resource_id: str | None
    actor_type: str
    actor_id: int | None
    details: str | None
    changes: str
    ip_address: str | None
    request_id: str | None
    created_at: datetime


class AuditSeal(Shape):
    """A link of the chain; `entry_ids` are in the order in which they were hashed."""

    id: int
    entry_ids: list[int]
    previous_hash: str
    hash: str
    key_id: str | None
    mac: str | None
    sealed_at: datetime


class NotedSeal(Shape):
    """A seal as somebody noted it elsewhere: `<hash>@<id>`."""

    id: int
    hash: str

    def __str__(self) -> str:
        return f"{self.hash}@{self.id}"


class BreakKind(StrEnum):
    """What does not fit."""

    SEAL_MISSING = "seal_missing"
    LINK_DIFFERS = "link_differs"
    ENTRY_MISSING = "entry_missing"
    HASH_DIFFERS = "hash_differs"
    MAC_DIFFERS = "mac_differs"
    MAC_MISSING = "mac_missing"
    KEY_UNKNOWN = "key_unknown"
    SEALED_TWICE = "sealed_twice"
    NEITHER_SEALED_NOR_WAITING = "neither_sealed_nor_waiting"
    NOTED_SEAL_DIFFERS = "noted_seal_differs"


class AuditBreak(Shape):
    """The first place where the log is not what was sealed."""

    kind: BreakKind
    message: str
    seal_id: int | None = None
    entry_id: int | None = None


class Verification(Shape):
    """What verifying found. Where the chain breaks, the counts go as far as the break."""

    seals: int = 0
    sealed: int = 0
    waiting: int = 0
    """Entries that no seal covers yet: of these nothing is proven."""
    macs_checked: int = 0
    macs_unchecked: int = 0
    """Their keys are not at hand."""
    macs_absent: int = 0
    """Sealed while there was no ENCRYPTION_KEY."""
    last: NotedSeal | None = None
    broken: AuditBreak | None = None
