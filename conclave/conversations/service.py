"""Use cases of conversations, as every dialect calls them.

A request that needs an answer is an inbox row; ending, pausing and resuming are states of the
row itself. Both are committed with an outbox row, and only then is the workflow told.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress

from conclave.auditing import AuditLog, changed
from conclave.conversations.admission import adhoc, admit
from conclave.conversations.commands import (
    Advance,
    Advanced,
    ConversationFilter,
    CreateConversation,
    TurnSnapshot,
)
from conclave.conversations.creation import Created, NewConversation, store
from conclave.conversations.dispatch import TARGET_KIND, ConversationDispatch
from conclave.conversations.errors import (
    CircleNotActive,
    ConversationEnded,
    ConversationNotFound,
    ConversationPaused,
    IdempotencyKeyReused,
    TurnFailed,
    TurnNotCalled,
)
from conclave.conversations.mentions import mentions
from conclave.conversations.rendering import conversation_event, private_owner_of
from conclave.conversations.repository import ConversationRepository, StoredConversation
from conclave.db import Database, Transaction
from conclave.errors import BudgetExhausted, Conflict, Invalid, NotFound, Unavailable
from conclave.events import EventLog
from conclave.mailbox import InboxEntry, Letter, Mailbox
from conclave.ports.events import StreamWatch
from conclave.ports.tools import ApprovalDesk
from schema.domain.agents import AT_REST
from schema.domain.conversations import (
    Conversation,
    ConversationKind,
    ConversationStatus,
    Message,
    TurnStrategy,
)
from schema.domain.events import EventType, conversation_stream
from schema.domain.identity import Principal
from schema.domain.inbox import InboxStatus
from schema.payloads.conversations import AdvanceOutcome

_SESSION_MAX_TURNS = 500
_SESSION_TURN_TIMEOUT = 120
_LOOK_AGAIN_SECONDS = 2.0


class ConversationService:
    """Creates, reads, advances and ends conversations."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        audit: AuditLog,
        mailbox: Mailbox,
        dispatch: ConversationDispatch,
        watch: StreamWatch,
        *,
        advance_wait_seconds: float,
    ) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._mailbox = mailbox
        self._dispatch = dispatch
        self._watch = watch
        self._advance_wait_seconds = advance_wait_seconds
        self._conversations = ConversationRepository()
        self.approvals: ApprovalDesk | None = None
        """Set once it is built: what waits for a yes ends with its conversation."""

    async def create(self, command: CreateConversation, principal: Principal) -> Conversation:
        """Store a conversation and, with `auto_run`, start it.

        Raises `NotFound`, `Invalid` and `CircleNotActive`.
        """
        created = await self._create_adhoc(command, principal)
        if created is None:
            async with self._db.transaction() as tx:
                new = await admit(tx, self._conversations, command, principal)
                created = await store(tx, self._events, new)
                if created is None:
                    raise Conflict("An agent left while the conversation was created")
        if created.owed is not None:
            await self._dispatch.start(created)
        return created.conversation

    async def _create_adhoc(
        self, command: CreateConversation, principal: Principal
    ) -> Created | None:
        """Store in one round trip what needs no more; None where more must be asked."""
        if command.circle_name is not None or "@" in (command.initial_prompt or ""):
            return None
        async with self._db.autocommit() as tx:
            return await store(tx, self._events, adhoc(command, principal))

    async def open_session(
        self, agent_id: int, initial_prompt: str | None, principal: Principal
    ) -> Conversation:
        """Open a conversation of one agent with the caller; its first message starts it."""
        async with self._db.transaction() as tx:
            found = await self._conversations.participants(tx, [agent_id])
            if not found:
                raise NotFound(f"Agent {agent_id} not found")
            new = NewConversation(
                kind=ConversationKind.SESSION,
                owner=principal.key,
                topic=f"A session with {found[0].name}",
                agent_ids=[agent_id],
                turn_strategy=TurnStrategy.ROUND_ROBIN,
                auto_run=False,
                max_turns=_SESSION_MAX_TURNS,
                turn_timeout=_SESSION_TURN_TIMEOUT,
            )
            created = await store(tx, self._events, new)
            if created is None:
                raise Conflict(f"Agent {agent_id} is offline")
        stored = created.conversation
        if initial_prompt is not None:
            await self.advance(stored.id, Advance(prompt=initial_prompt), principal, wait=False)
        return await self.get(stored.id, principal)

    async def get(self, conversation_id: int, principal: Principal) -> Conversation:
        """Return a conversation the caller may see."""
        async with self._db.autocommit() as tx:
            return visible(await self._stored(tx, conversation_id), principal)

    async def list(
        self, wanted: ConversationFilter, *, limit: int, offset: int
    ) -> tuple[list[Conversation], int]:
        """Return a page, newest first, and the number of all."""
        async with self._db.transaction() as tx:
            rows, total = await self._conversations.list(tx, wanted, limit=limit, offset=offset)
            return [*rows], total

    async def sessions(
        self, agent_id: int, principal: Principal, *, limit: int, offset: int
    ) -> tuple[list[Conversation], int]:
        """Return the caller's sessions with an agent; an admin sees everybody's."""
        async with self._db.transaction() as tx:
            if not await self._conversations.participants(tx, [agent_id]):
                raise NotFound(f"Agent {agent_id} not found")
            wanted = ConversationFilter(
                kind=ConversationKind.SESSION,
                agent_id=agent_id,
                owner=None if principal.is_admin else principal.key,
            )
            rows, total = await self._conversations.list(tx, wanted, limit=limit, offset=offset)
            return [*rows], total

    async def messages(
        self, conversation_id: int, principal: Principal, *, after_seq: int, limit: int
    ) -> tuple[list[Message], int]:
        """Return a page of the transcript in order, and the number of all messages."""
        async with self._db.transaction() as tx:
            stored = visible(await self._stored(tx, conversation_id), principal)
            page = await self._conversations.messages(
                tx, conversation_id, after_seq=after_seq, limit=limit
            )
            return page, stored.message_count

    async def advance(
        self, conversation_id: int, command: Advance, principal: Principal, *, wait: bool
    ) -> Advanced:
        """Add one turn, after the prompt if there is one.

        The same idempotency key is the same turn and returns the first answer. Raises
        `ConversationEnded`, `ConversationPaused`, `CircleNotActive`, `IdempotencyKeyReused`,
        `Invalid`, `TurnFailed`, `TurnNotCalled`, `BudgetExhausted`.
        """
        async with self._db.transaction() as tx:
            stored = visible(await self._stored(tx, conversation_id, lock=True), principal)
            entry = await self._accept(tx, stored, command, principal)
        if not entry.is_answered:
            if not wait:
                await self._dispatch.wake(stored.id)
                return Advanced(conversation=stored, messages=[], finished=False)
            await self.wait_until_answered(stored, entry)
        return await self._answer(conversation_id, entry.id)

    async def cancel_turn(
        self, conversation_id: int, principal: Principal, *, drop_queued: bool = False
    ) -> bool:
        """Stop the turn that runs; `drop_queued` also takes back what waits. False: none runs."""
        async with self._db.transaction() as tx:
            stored = visible(await self._stored(tx, conversation_id, lock=True), principal)
            target = conversation_stream(stored.id)
            waiting = await self._mailbox.waiting(tx, target)
            if stored.final or (stored.speaking_agent_id is None and not waiting):
                return False
            await self._conversations.cancel_turn(tx, stored.id, stored.turn_count + 1)
            if drop_queued:
                await self._mailbox.settle(
                    tx,
                    target=target,
                    status=InboxStatus.FAILED,
                    answer={"status": stored.status.value, "error": "dropped"},
                )
            await self._dispatch.owe(tx, stored.id)
        return True

    async def end(self, conversation_id: int, principal: Principal) -> Conversation:
        """End it for good; ending it again changes nothing."""
        async with self._db.transaction() as tx:
            stored = visible(await self._stored(tx, conversation_id, lock=True), principal)
            if stored.final:
                return stored
            ended = await self.close(tx, stored)
            changes = changed({"status": stored.status}, {"status": ended.status})
            await self._audit.record(
                tx, "conversation_ended", "conversation", stored.id, changes=changes
            )
        return ended

    async def close(self, tx: Transaction, stored: StoredConversation) -> StoredConversation:
        """End a locked conversation within the caller's transaction; the wake-up is owed."""
        if stored.fence is not None:
            await self._conversations.settle_cut_call(tx, stored.fence)
        status = ConversationStatus.COMPLETED if stored.turn_count else ConversationStatus.CANCELLED
        await self._conversations.set_status(tx, stored.id, status, final=True)
        if self.approvals is not None:
            await self.approvals.cancel_of(tx, conversation_id=stored.id)
        await self._mailbox.settle(
            tx,
            target=conversation_stream(stored.id),
            status=InboxStatus.FAILED,
            answer={"status": status.value, "error": "ended"},
        )
        ended = await self._stored(tx, stored.id)
        await self._events.append(tx, [conversation_event(ended, EventType.CONVERSATION_STATUS)])
        if stored.started or stored.auto_run:
            await self._dispatch.owe(tx, stored.id)
        return ended

    async def open_for(
        self, tx: Transaction, conversation_id: int, principal: Principal
    ) -> StoredConversation:
        """Lock and return a conversation the caller may see and ask something of.

        Raises `ConversationNotFound`, `ConversationEnded`, `ConversationPaused`.
        """
        stored = visible(await self._stored(tx, conversation_id, lock=True), principal)
        _refuse_unless_open(stored)
        return stored

    async def _accept(
        self, tx: Transaction, stored: StoredConversation, command: Advance, principal: Principal
    ) -> InboxEntry:
        """Store the request, or find the one its key already stands for."""
        letter = await self._letter(tx, stored, command, principal)
        if command.idempotency_key is not None:
            found = await self._mailbox.find(
                tx, letter.principal, letter.target, letter.idempotency_key
            )
            if found is not None:
                if found.request_hash != letter.request_hash:
                    raise IdempotencyKeyReused
                return found
        _refuse_unless_open(stored)
        if command.agent_id is not None:
            await self._require_speaker(tx, stored, command.agent_id)
        return await self._mailbox.put(tx, letter, TARGET_KIND, stored.id)

    async def _require_speaker(
        self, tx: Transaction, stored: StoredConversation, agent_id: int
    ) -> None:
        if agent_id not in stored.agent_ids:
            raise Invalid("agent_id", f"agent {agent_id} takes no part in it")
        found = await self._conversations.participants(tx, [agent_id])
        if not found or found[0].state in AT_REST:
            raise Invalid("agent_id", f"agent {agent_id} is gone or offline")

    async def _letter(
        self, tx: Transaction, stored: StoredConversation, command: Advance, principal: Principal
    ) -> Letter:
        called: list[int] = []
        if command.prompt is not None and "@" in command.prompt:
            found = await self._conversations.participants(tx, stored.agent_ids)
            called = mentions(command.prompt, {agent.id: agent.name for agent in found})
        return Letter(
            target=conversation_stream(stored.id),
            principal=principal.key,
            idempotency_key=command.idempotency_key or uuid.uuid4().hex,
            prompt=command.prompt,
            agent_id=command.agent_id,
            mentions=called,
        )

    async def wait_until_answered(self, stored: StoredConversation, entry: InboxEntry) -> None:
        """Wait until the request is answered, or until a request may no longer wait."""
        deadline = time.monotonic() + self._advance_wait_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(self._advance_wait_seconds):
                asked = await self._dispatch.advance(stored, entry.item)
                if asked is not None and asked.outcome is not AdvanceOutcome.ACCEPTED:
                    return
        await self._wait_by_record(stored, entry, deadline)

    async def _wait_by_record(
        self, stored: StoredConversation, entry: InboxEntry, deadline: float
    ) -> None:
        """Wait by the record: the workflow could not be asked, or has moved on."""
        while (left := deadline - time.monotonic()) > 0:
            with suppress(Unavailable):
                async with self._db.autocommit() as tx:
                    if (await self._mailbox.get(tx, entry.id)).is_answered:
                        return
            await self._watch.changed(
                conversation_stream(stored.id), min(left, _LOOK_AGAIN_SECONDS)
            )

    async def _answer(self, conversation_id: int, inbox_id: int) -> Advanced:
        async with self._db.autocommit() as tx:
            answer = await self._conversations.answer(tx, conversation_id, inbox_id)
        if answer is None:
            raise ConversationNotFound(conversation_id)
        stored = answer.conversation
        if not answer.is_answered:
            return Advanced(conversation=stored, messages=[], finished=False)
        if answer.inbox_status is InboxStatus.FAILED:
            error = answer.snapshot.get("error")
            if error == "ended":
                raise ConversationEnded(conversation_id, stored.status)
            reason = str(error or "The turn failed")
            if answer.snapshot.get("code") == BudgetExhausted.code:
                raise BudgetExhausted(reason)
            raise TurnNotCalled.told_by(answer.snapshot) or TurnFailed(reason)
        snapshot = TurnSnapshot.model_validate(answer.snapshot)
        then = stored.model_copy(update=dict(snapshot))
        return Advanced(conversation=then, messages=answer.messages, finished=True)

    async def _stored(
        self, tx: Transaction, conversation_id: int, *, lock: bool = False
    ) -> StoredConversation:
        found = await self._conversations.get(tx, conversation_id, lock=lock)
        if found is None:
            raise ConversationNotFound(conversation_id)
        if lock and found.kind is ConversationKind.TASK:
            raise Conflict("This is the transcript of a task: change the task instead")
        return found


def visible(stored: StoredConversation, principal: Principal) -> StoredConversation:
    """Sessions and chats are their owner's; others are told that there is none."""
    owner = private_owner_of(stored.kind, stored.owner)
    hidden = owner is not None and owner != principal.key and not principal.is_admin
    if hidden or stored.deleted_at is not None:
        raise ConversationNotFound(stored.id)
    return stored


def _refuse_unless_open(stored: StoredConversation) -> None:
    if stored.final:
        raise ConversationEnded(stored.id, stored.status)
    if stored.status is ConversationStatus.PAUSED:
        raise ConversationPaused(stored.id)
    if stored.circle_name is not None and stored.circle_status != "active":
        raise CircleNotActive(stored.circle_name, str(stored.circle_status))
