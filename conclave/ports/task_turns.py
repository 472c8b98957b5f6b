"""What a turn tells of a task that is worked on in it, inside the turn's own transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conclave.db import Transaction
from schema.domain.events import EventDraft
from schema.domain.llm import ModelReply
from schema.payloads.agent_turn import CompleteInput


class TaskTurns(Protocol):
    """Follows a task's attempt. The thread is locked; every answer is events to append."""

    async def begun(self, tx: Transaction, call: CompleteInput) -> Sequence[EventDraft]:
        """A turn begins: its first model call is about to be sent."""
        ...

    async def said(
        self, tx: Transaction, call: CompleteInput, reply: ModelReply, *, is_last: bool
    ) -> Sequence[EventDraft]:
        """A reply is committed; `is_last`: with it the task is done."""
        ...
