"""Use cases of chats: conversations of kind CHAT, named by a UUID and private to their owner."""

from __future__ import annotations

import uuid

from conclave.auditing import AuditLog, changed
from conclave.conversations.chat_repository import ChatRepository
from conclave.conversations.commands import Advance, CreateChat
from conclave.conversations.creation import NewConversation, store
from conclave.conversations.errors import (
    AgentUnknown,
    ChatNotFound,
    ProfileUnknown,
    ProjectUnknown,
)
from conclave.conversations.repository import ConversationRepository, StoredConversation
from conclave.conversations.service import ConversationService, visible
from conclave.db import Database, Transaction
from conclave.errors import Conflict, NotFound
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.ports.models import Assistants, ProfileDirectory
from schema.domain.chats import Chat, ChatStanding, ChatState, ChatTurn
from schema.domain.conversations import ConversationKind, TurnStrategy
from schema.domain.events import conversation_stream
from schema.domain.identity import Principal

_MAX_TURNS = 1_000_000_000
_TURN_TIMEOUT = 300
_UNTITLED = "New chat"


class ChatService:
    """Creates, lists, talks in and deletes chats; an admin sees everybody's."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        audit: AuditLog,
        mailbox: Mailbox,
        conversations: ConversationService,
        assistants: Assistants,
        profiles: ProfileDirectory,
    ) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._mailbox = mailbox
        self._service = conversations
        self._assistants = assistants
        self._profiles = profiles
        self._conversations = ConversationRepository()
        self._chats = ChatRepository()

    async def create(self, command: CreateChat, principal: Principal) -> Chat:
        """Store a chat; its first message starts it. Without an agent it is the assistant's.

        Raises `AgentUnknown`, `ProfileUnknown`, `ProjectUnknown`, `Conflict` for an agent that
        is offline.
        """
        agent_id = command.agent_id
        if agent_id is None:
            agent_id = await self._assistants.assistant_id()
        async with self._db.transaction() as tx:
            await self._require(tx, agent_id, command)
            new = NewConversation(
                kind=ConversationKind.CHAT,
                owner=principal.key,
                topic=command.title or _UNTITLED,
                agent_ids=[agent_id],
                turn_strategy=TurnStrategy.ROUND_ROBIN,
                auto_run=False,
                max_turns=_MAX_TURNS,
                turn_timeout=_TURN_TIMEOUT,
                chat_id=uuid.uuid4(),
                profile=command.profile,
                project_id=command.project_id,
            )
            created = await store(tx, self._events, new)
            if created is None:
                raise Conflict(f"Agent {agent_id} is offline")
            return await self._chats.get(tx, created.conversation.id)

    async def list(
        self, principal: Principal, *, limit: int, offset: int
    ) -> tuple[list[Chat], int]:
        """Return a page, the latest activity first, and the number of all."""
        async with self._db.transaction() as tx:
            return await self._chats.list(tx, _owner(principal), limit, offset)

    async def get(self, chat_id: uuid.UUID, principal: Principal) -> Chat:
        """Return a chat. Raises `ChatNotFound`, as everything here does that takes a chat_id."""
        async with self._db.transaction() as tx:
            return await self._chats.get(tx, (await self._stored(tx, chat_id, principal)).id)

    async def turns(self, chat_id: uuid.UUID, principal: Principal) -> list[ChatTurn]:
        """Return the whole transcript with its tool calls."""
        async with self._db.transaction() as tx:
            stored = await self._stored(tx, chat_id, principal)
            return await self._chats.turns(tx, stored.id)

    async def standing(self, chat_id: uuid.UUID, principal: Principal) -> ChatStanding:
        """Return what the chat does just now, and what waits for a yes."""
        async with self._db.transaction() as tx:
            stored = await self._stored(tx, chat_id, principal)
            pending = await self._chats.pending(tx, stored.id)
            waiting = await self._mailbox.waiting(tx, conversation_stream(stored.id))
        if pending:
            return ChatStanding(state=ChatState.WAITING_APPROVAL, pending=pending)
        is_running = stored.speaking_agent_id is not None or bool(waiting)
        state = ChatState.RUNNING if is_running else ChatState.IDLE
        return ChatStanding(state=state, pending=[], attempt=stored.fence)

    async def send(
        self, chat_id: uuid.UUID, content: str, key: str | None, principal: Principal
    ) -> None:
        """Put a message in the queue; the answer comes by the chat's events.

        The same key is the same message. Raises `ConversationEnded`, `IdempotencyKeyReused`.
        """
        async with self._db.transaction() as tx:
            stored = await self._stored(tx, chat_id, principal)
        command = Advance(prompt=content, idempotency_key=key)
        await self._service.advance(stored.id, command, principal, wait=False)

    async def cancel(
        self, chat_id: uuid.UUID, principal: Principal, *, drop_queued: bool = False
    ) -> bool:
        """Stop the running turn; `drop_queued` also takes back what waits. False: none ran."""
        async with self._db.transaction() as tx:
            stored = await self._stored(tx, chat_id, principal)
        return await self._service.cancel_turn(stored.id, principal, drop_queued=drop_queued)

    async def panic(self, principal: Principal) -> int:
        """Stop every running turn of the caller's chats and drop what waits; return how many."""
        async with self._db.transaction() as tx:
            busy = await self._chats.busy(tx, _owner(principal))
        stopped = 0
        for conversation_id in busy:
            try:
                stopped += await self._service.cancel_turn(
                    conversation_id, principal, drop_queued=True
                )
            except NotFound:
                continue  # deleted meanwhile
        return stopped

    async def delete(self, chat_id: uuid.UUID, principal: Principal) -> None:
        """End a chat for good and hide it; a running turn is stopped, what waits is dropped."""
        async with self._db.transaction() as tx:
            stored = await self._stored(tx, chat_id, principal, lock=True)
            await self._chats.delete(tx, stored.id)
            if not stored.final:
                await self._conversations.cancel_turn(tx, stored.id, stored.turn_count + 1)
                await self._service.close(tx, stored)
            await self._audit.record(tx, "chat_deleted", "conversation", stored.id)

    async def profile(self, chat_id: uuid.UUID, principal: Principal) -> str | None:
        """Return the name of the profile in force: the chat's own, else the default one."""
        chat = await self.get(chat_id, principal)
        return chat.profile or await self._profiles.default_name()

    async def set_profile(self, chat_id: uuid.UUID, name: str, principal: Principal) -> str:
        """Choose the profile; it holds from the next model call. Raises `ProfileUnknown`."""
        async with self._db.transaction() as tx:
            stored = await self._stored(tx, chat_id, principal, lock=True)
            if not await self._chats.holds_profile(tx, name):
                raise ProfileUnknown(name)
            await self._chats.set_profile(tx, stored.id, name)
            changes = changed({"profile": stored.profile}, {"profile": name})
            await self._audit.record(
                tx, "chat_profile_changed", "conversation", stored.id, changes=changes
            )
        return name

    async def _require(self, tx: Transaction, agent_id: int, command: CreateChat) -> None:
        if not await self._conversations.participants(tx, [agent_id]):
            raise AgentUnknown(agent_id)
        if command.profile is not None and not await self._chats.holds_profile(tx, command.profile):
            raise ProfileUnknown(command.profile)
        if command.project_id is not None and not await self._chats.holds_project(
            tx, command.project_id
        ):
            raise ProjectUnknown(command.project_id)

    async def _stored(
        self, tx: Transaction, chat_id: uuid.UUID, principal: Principal, *, lock: bool = False
    ) -> StoredConversation:
        conversation_id = await self._chats.conversation_id(tx, chat_id)
        if conversation_id is None:
            raise ChatNotFound(chat_id)
        stored = await self._conversations.get(tx, conversation_id, lock=lock)
        try:
            assert stored is not None, "rows of conversations are never removed"
            return visible(stored, principal)
        except NotFound:
            raise ChatNotFound(chat_id) from None


def _owner(principal: Principal) -> str | None:
    """Return whose chats are seen; None: everybody's."""
    return None if principal.is_admin else principal.key
