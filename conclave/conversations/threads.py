"""The threads of tasks (`ports.threads`)."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence

from conclave.conversations.repository import ConversationRepository
from conclave.conversations.thread_repository import ThreadRepository
from conclave.db import Transaction
from conclave.mailbox import Letter, Mailbox
from conclave.ports.threads import Attempt, Begun
from conclave.ports.tools import ToolDesk
from schema.domain.conversations import ConversationStatus
from schema.domain.events import conversation_stream
from schema.domain.inbox import InboxItem, InboxStatus

TASK_TARGET = "task"
"""The outbox target of a task's own wake-ups."""


class ThreadService:
    """A `TaskThreads`."""

    def __init__(self, mailbox: Mailbox, tools: ToolDesk) -> None:
        self._mailbox = mailbox
        self._tools = tools
        self._threads = ThreadRepository()
        self._conversations = ConversationRepository()

    async def lock(self, tx: Transaction, conversation_ids: Collection[int]) -> set[int]:
        """Lock those that nobody else holds; return which."""
        return await self._threads.lock(tx, conversation_ids, wait=False)

    async def hold(self, tx: Transaction, conversation_id: int) -> None:
        """Lock one, waiting for whoever holds it."""
        await self._threads.lock(tx, [conversation_id], wait=True)

    async def begin(self, tx: Transaction, attempts: Sequence[Attempt]) -> dict[int, Begun]:
        """Begin attempts on locked threads, by conversation."""
        return await self._threads.begin(tx, attempts)

    async def close(
        self, tx: Transaction, conversation_id: int, status: ConversationStatus, reason: str
    ) -> None:
        """Stop what runs on a locked thread: from now on nothing of it commits."""
        fence = await self._threads.fence(tx, conversation_id)
        if fence is not None:
            await self._conversations.settle_cut_call(tx, fence)
        await self._tools.cancel_open(tx, conversation_id, reason)
        await self._mailbox.settle(
            tx,
            target=conversation_stream(conversation_id),
            status=InboxStatus.FAILED,
            answer={"status": status.value, "error": reason},
        )
        await self._threads.finish(tx, conversation_id, status, reason)

    async def amend(
        self, tx: Transaction, conversation_id: int, principal: str, text: str, task_id: int
    ) -> InboxItem:
        """Put a change before the agent at its next turn; the task's wake-up is owed."""
        letter = Letter(
            target=conversation_stream(conversation_id),
            principal=principal,
            idempotency_key=uuid.uuid4().hex,
            prompt=text,
            agent_id=None,
            mentions=[],
        )
        return (await self._mailbox.put(tx, letter, TASK_TARGET, task_id)).item

    async def waiting(self, tx: Transaction, conversation_id: int) -> list[InboxItem]:
        """Return the changes that wait."""
        return await self._mailbox.waiting(tx, conversation_stream(conversation_id))
