"""Telling the conversation workflow that the record has changed.

Every call here may be lost: the outbox row committed before it is delivered again by the relay.
A run that is over gets a successor (`conversation-42-2`) where there is something left to do.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from conclave.conversations.creation import Created
from conclave.conversations.errors import ConversationNotFound
from conclave.conversations.repository import (
    RUNNING,
    ConversationRepository,
    Participant,
    StoredConversation,
)
from conclave.db import Database, Transaction
from conclave.errands import Errands
from conclave.errors import ExecutionClosed, Unavailable
from conclave.failpoints import Failpoint, reach
from conclave.logging import get_logger
from conclave.mailbox import Mailbox
from conclave.ports.engine import WorkflowEngine
from schema.domain.events import conversation_stream
from schema.domain.inbox import InboxItem
from schema.payloads.conversations import (
    AdvanceInput,
    AdvanceResult,
    ConversationState,
    Floor,
)

TARGET_KIND = "conversation"
_EXECUTIONS_TRIED = 3
_STRIKE_SECONDS = 0.05
_log = get_logger(__name__)


class ConversationDispatch:
    """Starts, wakes and asks conversation workflows."""

    def __init__(
        self, db: Database, mailbox: Mailbox, errands: Errands, engine: WorkflowEngine
    ) -> None:
        self._db = db
        self._mailbox = mailbox
        self._errands = errands
        self._engine = engine
        self._conversations = ConversationRepository()
        self._delivered: list[int] = []

    async def owe(self, tx: Transaction, conversation_id: int) -> None:
        """Store a wake-up with the change it tells of, and deliver it once that is committed."""
        await self._mailbox.owe(tx, TARGET_KIND, conversation_id)
        tx.after_commit.append(lambda: self._errands.run(self.wake(conversation_id)))

    async def start(self, created: Created) -> None:
        """Start the run of a new conversation and strike what is owed; never raises."""
        stored = created.conversation
        labels = {agent.id: _label(agent) for agent in created.agents}
        reach(Failpoint.BEFORE_START, "conversation", stored.id)
        try:
            await self._engine.start_conversation(_state_of(stored, labels, [], created.mentions))
        except (Unavailable, ExecutionClosed) as error:
            _log.warning("start is left to the relay", conversation_id=stored.id, error=error.code)
            return
        if created.owed is not None:
            self._delivered.append(created.owed)
            self._errands.run(self._strike())

    async def _strike(self) -> None:
        """Forget delivered wake-ups, many at a time: none is worth a round trip of its own."""
        await asyncio.sleep(_STRIKE_SECONDS)
        struck, self._delivered = self._delivered, []
        if struck:
            with suppress(Unavailable):
                async with self._db.autocommit() as tx:
                    await self._mailbox.delivered(tx, struck)

    async def wake(self, conversation_id: int) -> None:
        """Say at once what the relay would say a moment later; never raises."""
        try:
            await self.deliver(conversation_id)
        except Unavailable as error:
            _log.warning(
                "wake-up is left to the relay", conversation_id=conversation_id, error=error.code
            )

    async def deliver(self, conversation_id: int) -> None:
        """Wake the run, or start one where something is left to do, and strike what is owed.

        Raises `Unavailable`.
        """
        for _ in range(_EXECUTIONS_TRIED):
            async with self._db.transaction() as tx:
                stored = await self._get(tx, conversation_id)
                waiting = await self._mailbox.waiting(tx, conversation_stream(conversation_id))
                owed = await self._mailbox.owed(tx, TARGET_KIND, conversation_id)
                state = await self._state(tx, stored)
            has_work = bool(waiting) or (
                stored.auto_run and not stored.final and stored.status in RUNNING
            )
            if await self._woken(stored, state, has_work=has_work):
                if owed:
                    async with self._db.transaction() as tx:
                        await self._mailbox.delivered(tx, owed)
                return
        raise Unavailable("The conversation's runs end faster than they can be addressed.")

    async def _woken(
        self, stored: StoredConversation, state: ConversationState, *, has_work: bool
    ) -> bool:
        """Wake the run if there is one to wake; False where another one must be tried."""
        if not (stored.started or has_work):
            return True
        if not stored.started:
            reach(Failpoint.BEFORE_START, "conversation", stored.id)
        try:
            await self._engine.wake_conversation(state)
        except ExecutionClosed:
            if has_work:
                await self._move_on(stored)
            return not has_work
        return True

    async def advance(self, stored: StoredConversation, item: InboxItem) -> AdvanceResult | None:
        """Hand over a request and wait for its turn; None where the record has to tell."""
        message = AdvanceInput(item=item)
        if not stored.started:
            reach(Failpoint.BEFORE_START, "conversation", stored.id)
        try:
            for _ in range(_EXECUTIONS_TRIED):
                state = await self._address(stored)
                try:
                    return await self._engine.advance(state, message, started=stored.started)
                except ExecutionClosed:
                    stored = await self._move_on(stored)
        except Unavailable as error:
            _log.warning("turn is left to the relay", conversation_id=stored.id, error=error.code)
        return None

    async def _address(self, stored: StoredConversation) -> ConversationState:
        """Return what is needed to reach the run: a started one needs no more than its id."""
        if stored.started:
            return _state_of(stored, {}, [], [])
        async with self._db.transaction() as tx:
            return await self._state(tx, stored)

    async def _move_on(self, stored: StoredConversation) -> StoredConversation:
        async with self._db.transaction() as tx:
            await self._conversations.next_execution(tx, stored.id, stored.execution)
            return await self._get(tx, stored.id)

    async def _get(self, tx: Transaction, conversation_id: int) -> StoredConversation:
        found = await self._conversations.get(tx, conversation_id)
        if found is None:
            raise ConversationNotFound(conversation_id)
        return found

    async def _state(self, tx: Transaction, stored: StoredConversation) -> ConversationState:
        """Build what a run starts with from the record."""
        agents = await self._conversations.participants(tx, stored.agent_ids)
        labels = {agent.id: _label(agent) for agent in agents}
        if stored.turn_count == 0 and stored.message_count == 0:
            return _state_of(stored, labels, [], [])
        count = len(stored.agent_ids)
        speakers = await self._conversations.last_speakers(tx, stored.id, count)
        called = await self._conversations.last_mentions(tx, stored.id)
        return _state_of(stored, labels, speakers, called)


def _state_of(
    stored: StoredConversation, labels: dict[int, str], speakers: list[int], called: list[int]
) -> ConversationState:
    last = speakers[-1] if speakers else None
    return ConversationState(
        conversation_id=stored.id,
        execution=stored.execution,
        kind=stored.kind,
        circle_name=stored.circle_name,
        labels=labels,
        floor=Floor(
            strategy=stored.turn_strategy,
            agent_ids=stored.agent_ids,
            facilitator_id=stored.facilitator_id,
            last_speaker=last,
            last_in_order=last,
            recent=speakers,
            mentioned=called,
        ),
        auto_run=stored.auto_run,
        max_turns=stored.max_turns,
        turn_count=stored.turn_count,
        turn_timeout=stored.turn_timeout,
        status=stored.status,
        spent_micro_usd=int(stored.cost_usd * 1_000_000),
    )


def _label(agent: Participant) -> str:
    return f"{agent.slug} asks {agent.model}"
