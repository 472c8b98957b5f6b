"""Starting a conversation inside somebody else's transaction: what triggers do."""

from __future__ import annotations

from collections.abc import Collection

from conclave.conversations.admission import admit
from conclave.conversations.commands import CreateConversation
from conclave.conversations.creation import store
from conclave.conversations.dispatch import ConversationDispatch
from conclave.conversations.repository import ConversationRepository
from conclave.db import Transaction
from conclave.errands import Errands
from conclave.errors import Conflict
from conclave.events import EventLog
from schema.domain.identity import Principal, PrincipalKind


class StoredStart:
    """A `ConversationStarter`."""

    def __init__(self, events: EventLog, dispatch: ConversationDispatch, errands: Errands) -> None:
        self._events = events
        self._dispatch = dispatch
        self._errands = errands
        self._conversations = ConversationRepository()

    async def start(
        self,
        tx: Transaction,
        *,
        topic: str,
        agent_ids: Collection[int],
        circle_name: str | None,
        prompt: str | None,
        max_turns: int,
        owner: str,
    ) -> int:
        """Store a conversation and what is owed for it; it is started after the commit."""
        command = CreateConversation(
            topic=topic,
            agent_ids=list(agent_ids) or await self._members(tx, circle_name),
            circle_name=circle_name,
            initial_prompt=prompt,
            max_turns=max_turns,
        )
        new = await admit(tx, self._conversations, command, _principal(owner))
        created = await store(tx, self._events, new)
        if created is None:
            raise Conflict("An agent left while the conversation was created")
        tx.after_commit.append(lambda: self._errands.run(self._dispatch.start(created)))
        return created.conversation.id

    async def _members(self, tx: Transaction, circle_name: str | None) -> list[int]:
        circle = None
        if circle_name is not None:
            circle = await self._conversations.circle(tx, circle_name)
        members = {} if circle is None else await self._conversations.member_roles(tx, circle.id)
        return sorted(members)


def _principal(owner: str) -> Principal:
    """Return whose conversation it is: `user:3`, `local`, `gateway`."""
    kind, _, number = owner.partition(":")
    user_id = int(number) if number.isdecimal() else None
    return Principal(kind=PrincipalKind(kind), id=user_id, user_id=user_id)
