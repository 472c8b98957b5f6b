"""The inbox: what was asked of a workflow, stored before it is told."""

from __future__ import annotations

from enum import StrEnum

from schema.domain.base import Shape


class InboxStatus(StrEnum):
    """pending → claimed (its turn runs) → done or failed."""

    PENDING = "pending"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"


class InboxKind(StrEnum):
    """What is asked for: a turn, or that the conversation is compacted between two turns."""

    TURN = "turn"
    COMPACT = "compact"


class InboxItem(Shape):
    """A request as the workflow sees it: ids only, no text."""

    id: int
    kind: InboxKind = InboxKind.TURN
    agent_id: int | None = None
    mentions: list[int] = []
    prompted: bool = False
