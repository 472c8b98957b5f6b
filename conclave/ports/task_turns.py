"""What a turn tells of a task that is worked on in it, inside the turn's own transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conclave.db import Transaction
from schema.domain.events import EventDraft
from schema.payloads.agent_turn import CompleteInput


class TaskTurns(Protocol):
    """Follows a task's attempt. The thread is locked; every answer is events to append."""

    async def begun(self, tx: Transaction, call: CompleteInput) -> Sequence[EventDraft]:
        """A turn begins: its first model call is about to be sent."""
        ...

    async def completed(
        self, tx: Transaction, call: CompleteInput, result: str
    ) -> Sequence[EventDraft]:
        """Its last reply is committed."""
        ...
