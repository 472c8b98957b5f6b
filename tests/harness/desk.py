"""The core without Temporal: a test makes the calls that a workflow would make."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import func, select, update

from conclave.agents.commands import CreateAgent
from conclave.container import Core
from conclave.conversations.commands import Advance, Advanced, CreateConversation
from conclave.conversations.dispatch import TARGET_KIND
from conclave.conversations.record import ConversationRecord
from conclave.conversations.turns import TurnService
from conclave.mailbox import Mailbox
from conclave.outbox.relay import Relay
from conclave.ports.breakers import Breakers
from conclave.tasks.wakes import DISPATCH_TARGET
from schema.domain.agents import Agent
from schema.domain.base import Shape
from schema.domain.conversations import Conversation, Message
from schema.domain.events import conversation_stream
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.inbox import InboxItem
from schema.domain.providers import ProviderName
from schema.payloads.agent_turn import CompleteInput, CompleteResult
from schema.tables.inbox import OutboxRow
from schema.tables.model_calls import ModelCallRow
from tests.fakes.breakers import OpenGate
from tests.fakes.engine import FakeEngine
from tests.fakes.gateway import ScriptedGateway
from tests.waiting import until


class Entry(Shape):
    """A row of the ledger."""

    status: str
    error_code: str | None
    cost_usd: Decimal


class Desk:
    """Services over a real database, a fake engine and a scripted gateway.

    Every call is let through, however many failed before, unless breakers are given.
    """

    def __init__(
        self,
        core: Core,
        engine: FakeEngine,
        gateway: ScriptedGateway,
        breakers: Breakers | None = None,
    ) -> None:
        self.core = core
        self.engine = engine
        self.gateway = gateway
        self.mailbox = Mailbox()
        self.turns = TurnService(
            core.db,
            core.events,
            self.mailbox,
            core.bus,
            gateway,
            core.models,
            core.tool_desk,
            core.workforce.task_turns,
            breakers or OpenGate(),
            core.budgets,
        )
        self.record = ConversationRecord(core.db, core.events, self.mailbox, core.tool_desk)

    def relay(self) -> Relay:
        """Make a relay, as a worker has one."""
        targets = {
            TARGET_KIND: self.core.dispatch.deliver,
            DISPATCH_TARGET: self.core.workforce.dispatcher.hand_out,
        }
        return Relay(self.core.db, self.mailbox, targets)

    async def agents(self, *names: str) -> list[Agent]:
        """Make agents; what that owes the dispatcher is done."""
        made = [
            await self.core.agents.create(
                CreateAgent(name=name, provider=ProviderName.OPENAI, model="gpt-4o-mini")
            )
            for name in names
        ]
        await until(lambda: self.core.errands.is_idle, what="the dispatcher")
        return made

    async def conversation(self, *agents: Agent, **fields: object) -> Conversation:
        """Store a conversation, of Ada and Bob where nobody is named."""
        among = list(agents) or await self.agents("Ada", "Bob")
        values = {
            "topic": "tea",
            "agent_ids": [agent.id for agent in among],
            "auto_run": False,
            **fields,
        }
        command = CreateConversation.model_validate(values)
        return await self.core.conversations.create(command, LOCAL_PRINCIPAL)

    async def get(self, conversation: Conversation) -> Conversation:
        """Read it again."""
        return await self.core.conversations.get(conversation.id, LOCAL_PRINCIPAL)

    async def advance(
        self, conversation: Conversation, prompt: str | None = None, *, wait: bool = False
    ) -> Advanced:
        """Ask for a turn; nobody runs it unless the test does."""
        return await self.core.conversations.advance(
            conversation.id, Advance(prompt=prompt), LOCAL_PRINCIPAL, wait=wait
        )

    async def ask(self, conversation: Conversation, prompt: str | None = None) -> InboxItem:
        """Ask for a turn; return the request as a workflow would see it."""
        await self.advance(conversation, prompt)
        return (await self.waiting(conversation))[-1]

    async def waiting(self, conversation: Conversation) -> list[InboxItem]:
        """Return the requests that are not answered."""
        async with self.core.db.transaction() as tx:
            return await self.mailbox.waiting(tx, conversation_stream(conversation.id))

    async def complete(
        self,
        conversation: Conversation,
        item: InboxItem | None = None,
        *,
        attempt: int = 1,
        turn: int = 1,
        execution: int = 1,
        agent_id: int | None = None,
    ) -> CompleteResult:
        """Make the model call of a turn's first step."""
        call = CompleteInput(
            conversation_id=conversation.id,
            execution=execution,
            turn=turn,
            step=1,
            agent_id=agent_id or conversation.agent_ids[0],
            timeout=30,
            inbox_id=None if item is None else item.id,
        )
        return await self.turns.complete(call, attempt)

    async def messages(self, conversation: Conversation) -> list[Message]:
        """Read the transcript."""
        page, _ = await self.core.conversations.messages(
            conversation.id, LOCAL_PRINCIPAL, after_seq=0, limit=500
        )
        return page

    async def said(self, conversation: Conversation) -> list[str]:
        """Read what was said, in order."""
        return [message.content for message in await self.messages(conversation)]

    async def ledger(self, conversation: Conversation) -> list[Entry]:
        """Read the model calls, and check that the conversation's cost is their sum."""
        async with self.core.db.transaction() as tx:
            rows = await tx.conn.execute(
                select(ModelCallRow.status, ModelCallRow.error_code, ModelCallRow.cost_usd)
                .where(ModelCallRow.conversation_id == conversation.id)
                .order_by(ModelCallRow.id)
            )
            entries = [Entry.model_validate(row) for row in rows.mappings()]
        assert (await self.get(conversation)).cost_usd == sum(entry.cost_usd for entry in entries)
        return entries

    async def owed(self) -> int:
        """Count the wake-ups that are not delivered."""
        async with self.core.db.transaction() as tx:
            return await tx.conn.scalar(select(func.count()).select_from(OutboxRow)) or 0

    async def let_time_pass(self) -> None:
        """Make every wake-up due that is owed."""
        async with self.core.db.transaction() as tx:
            await tx.conn.execute(update(OutboxRow).values(due_at=func.now()))
