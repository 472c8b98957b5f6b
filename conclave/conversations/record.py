"""What the conversation workflow reads from and writes to the record besides its turns."""

from __future__ import annotations

from pydantic import JsonValue

from conclave.conversations.errors import ConversationNotFound
from conclave.conversations.rendering import conversation_event, turn_stopped_event
from conclave.conversations.repository import ConversationRepository, StoredConversation
from conclave.db import Database, Transaction
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.ports.tools import ToolDesk
from schema.domain.conversations import ConversationStatus
from schema.domain.events import EventType, conversation_stream
from schema.domain.inbox import InboxStatus
from schema.payloads.conversations import LookInput, LookResult, SettleInput, SettleResult
from schema.payloads.tools import FinishInput, FinishResult


class ConversationRecord:
    """Use cases of the workflow itself; each is safe to repeat."""

    def __init__(self, db: Database, events: EventLog, mailbox: Mailbox, tools: ToolDesk) -> None:
        self._db = db
        self._events = events
        self._mailbox = mailbox
        self._tools = tools
        self._conversations = ConversationRepository()

    async def look(self, asked: LookInput) -> LookResult:
        """Say where the conversation stands and what waits in its inbox."""
        async with self._db.transaction() as tx:
            stored = await self._get(tx, asked.conversation_id, lock=False)
            return LookResult(
                status=stored.status,
                final=stored.final,
                superseded=stored.execution != asked.execution,
                inbox=await self._mailbox.waiting(tx, conversation_stream(stored.id)),
                cancel_turn=stored.cancel_turn,
            )

    async def settle(self, asked: SettleInput) -> SettleResult:
        """Store that a turn failed, that one request is refused, or that all was cancelled.

        Does nothing to a conversation that was ended or is run by a later execution.
        """
        async with self._db.transaction() as tx:
            stored = await self._get(tx, asked.conversation_id, lock=True)
            if stored.final or stored.execution != asked.execution:
                return SettleResult(status=stored.status)
            is_cancelled = asked.status is ConversationStatus.CANCELLED
            code: dict[str, JsonValue] = {} if asked.code is None else {"code": asked.code}
            if asked.inbox_id is not None or is_cancelled:
                await self._mailbox.settle(
                    tx,
                    target=conversation_stream(stored.id),
                    status=InboxStatus.FAILED,
                    answer={
                        "status": asked.status.value,
                        "error": asked.reason,
                        "code": asked.code,
                        "retry_after": asked.retry_after,
                    },
                    inbox_id=None if is_cancelled else asked.inbox_id,
                )
            if asked.status is stored.status:
                return SettleResult(status=stored.status)
            turn_count = await self._use_up(tx, stored, asked)
            if stored.fence is not None:
                await self._conversations.settle_cut_call(tx, stored.fence)
            await self._conversations.set_status(
                tx, stored.id, asked.status, reason=asked.reason, final=is_cancelled
            )
            changed = stored.model_copy(update={"status": asked.status, "reason": asked.reason})
            type_ = (
                EventType.TURN_FAILED
                if asked.status is ConversationStatus.FAILED
                else EventType.CONVERSATION_STATUS
            )
            event = conversation_event(changed, type_, reason=asked.reason, **code)
            await self._events.append(tx, [event])
            return SettleResult(status=asked.status, turn_count=turn_count)

    async def _use_up(
        self, tx: Transaction, stored: StoredConversation, asked: SettleInput
    ) -> int | None:
        """Close the calls of a turn that failed; a turn that said something is not tried again."""
        if asked.status not in (ConversationStatus.FAILED, ConversationStatus.CANCELLED):
            return None
        if not await self._conversations.has_spoken(tx, stored):
            return None
        await self._tools.cancel_open(tx, stored.id, "The turn failed before this call ran.")
        await self._conversations.use_up_turn(tx, stored.id, stored.turn_count + 1)
        return stored.turn_count + 1

    async def finish(self, asked: FinishInput) -> FinishResult:
        """Close a turn that ends without a last word. Safe to repeat."""
        async with self._db.transaction() as tx:
            stored = await self._get(tx, asked.conversation_id, lock=True)
            if stored.final or stored.execution != asked.execution:
                return FinishResult(status=stored.status, turn_count=stored.turn_count)
            if stored.turn_count >= asked.turn:
                return FinishResult(status=stored.status, turn_count=stored.turn_count)
            if stored.fence is not None:
                await self._conversations.settle_cut_call(tx, stored.fence)
            await self._tools.cancel_open(
                tx, stored.id, "The turn was stopped before this call ran."
            )
            await self._conversations.use_up_turn(tx, stored.id, asked.turn)
            if asked.inbox_id is not None:
                await self._mailbox.settle(
                    tx,
                    target=conversation_stream(stored.id),
                    status=InboxStatus.FAILED,
                    answer={"status": stored.status.value, "error": asked.stop_reason},
                    inbox_id=asked.inbox_id,
                )
            await self._events.append(tx, [turn_stopped_event(stored, asked)])
            return FinishResult(status=stored.status, turn_count=asked.turn)

    async def _get(
        self, tx: Transaction, conversation_id: int, *, lock: bool
    ) -> StoredConversation:
        found = await self._conversations.get(tx, conversation_id, lock=lock)
        if found is None:
            raise ConversationNotFound(conversation_id)
        return found
