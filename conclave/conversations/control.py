"""What a circle's changes do to its conversations, within the circle's own transaction."""

from __future__ import annotations

from conclave.conversations.dispatch import ConversationDispatch
from conclave.conversations.rendering import conversation_event
from conclave.conversations.repository import (
    RUNNING,
    ConversationRepository,
    StoredConversation,
)
from conclave.conversations.service import ConversationService
from conclave.db import Transaction
from conclave.events import EventLog
from schema.domain.conversations import ConversationStatus
from schema.domain.events import EventType


class CircleConversations:
    """Pauses, resumes and ends the conversations of a circle (`ports.ConversationControl`).

    A paused conversation begins no new turn from the moment of the commit, because every turn
    looks at the row first; the wake-up only makes the workflow notice.
    """

    def __init__(
        self,
        events: EventLog,
        dispatch: ConversationDispatch,
        conversations: ConversationService,
    ) -> None:
        self._events = events
        self._dispatch = dispatch
        self._service = conversations
        self._conversations = ConversationRepository()

    async def pause_circle(self, tx: Transaction, circle_id: int) -> None:
        """Let no conversation of the circle begin another turn."""
        for stored in await self._conversations.running_in_circle(tx, circle_id, RUNNING):
            await self._change(tx, stored, ConversationStatus.PAUSED)

    async def resume_circle(self, tx: Transaction, circle_id: int) -> None:
        """Let the circle's paused conversations go on."""
        paused = (ConversationStatus.PAUSED,)
        for stored in await self._conversations.running_in_circle(tx, circle_id, paused):
            is_begun = stored.started or stored.turn_count > 0
            await self._change(
                tx,
                stored,
                ConversationStatus.ACTIVE if is_begun else ConversationStatus.PENDING,
            )

    async def end_circle(self, tx: Transaction, circle_id: int) -> None:
        """End every conversation of the circle for good."""
        for stored in await self._conversations.running_in_circle(tx, circle_id, None):
            await self._service.close(tx, stored)

    async def _change(
        self, tx: Transaction, stored: StoredConversation, status: ConversationStatus
    ) -> None:
        await self._conversations.set_status(tx, stored.id, status)
        changed = stored.model_copy(update={"status": status})
        await self._events.append(tx, [conversation_event(changed, EventType.CONVERSATION_STATUS)])
        if stored.started or stored.auto_run:
            await self._dispatch.owe(tx, stored.id)


class ConversationTurns:
    """An `AgentTurns`: each turn is closed by its workflow, which is woken for it."""

    def __init__(self, dispatch: ConversationDispatch) -> None:
        self._dispatch = dispatch
        self._conversations = ConversationRepository()

    async def stop(self, tx: Transaction, agent_id: int) -> None:
        """Ask for the agent's turns to stop; those of tasks are theirs to stop."""
        for stored in await self._conversations.spoken_by(tx, agent_id):
            await self._conversations.cancel_turn(tx, stored.id, stored.turn_count + 1)
            await self._dispatch.owe(tx, stored.id)
