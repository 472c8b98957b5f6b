"""Turns over a real database, a model of fixed price, and a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import pytest
from sqlalchemy import func, insert, select, text, update

from conclave.container import Core, build_core
from conclave.conversations.leftovers import LeftCalls
from conclave.costs.commands import SetBudget
from conclave.costs.upkeep import BudgetUpkeep
from conclave.crypto import new_key
from conclave.db import Database
from conclave.ports.tasks import TaskDesk
from conclave.settings import Settings
from schema.domain.agents import Agent
from schema.domain.conversations import Conversation
from schema.domain.costs import Budget, ModelPrice
from schema.domain.llm import ModelRequest
from schema.domain.providers import ProviderAccess
from schema.tables.agents import AgentRow
from schema.tables.conversations import ConversationRow
from schema.tables.costs import BudgetCounterRow
from schema.tables.model_calls import ModelCallRow
from schema.tables.tasks import TaskRow
from tests.fakes.costs import FakeNotifier, MovableClock, WaitingTasks
from tests.fakes.engine import FakeEngine
from tests.fakes.gateway import ScriptedGateway
from tests.harness.desk import Desk


@dataclass
class PricedGateway(ScriptedGateway):
    """A model whose worst case a test may set; None: nobody knows its price."""

    worst_case: Decimal | None = Decimal("0.5")

    def worst_case_usd(self, request: ModelRequest, access: ProviderAccess) -> Decimal | None:
        return self.worst_case


@dataclass
class Till:
    """A desk with what is told, and shortcuts into the ledger."""

    desk: Desk
    gateway: PricedGateway
    clock: MovableClock
    notifier: FakeNotifier = field(default_factory=FakeNotifier)
    tasks: WaitingTasks = field(default_factory=WaitingTasks)

    @property
    def core(self) -> Core:
        return self.desk.core

    async def limit(self, amount: str, *thresholds: int, hard_stop: bool = True) -> Budget:
        """Set the platform's monthly limit."""
        return await self.core.costs.set_budget(
            SetBudget(
                monthly_limit_usd=Decimal(amount),
                alert_thresholds=[Decimal(one) for one in thresholds],
                hard_stop=hard_stop,
            )
        )

    async def set_agent(self, agent: Agent, **values: object) -> None:
        """Change an agent's row as an update by a person does."""
        async with self.core.db.transaction() as tx:
            await tx.conn.execute(
                update(AgentRow)
                .where(AgentRow.id == agent.id)
                .values(**values, updated_at=self.clock.now)
            )

    async def task(self, talk: Conversation, budget: str | None = None) -> int:
        """Make a conversation a task's own."""
        async with self.core.db.transaction() as tx:
            await tx.conn.execute(
                update(ConversationRow).where(ConversationRow.id == talk.id).values(kind="task")
            )
            added = await tx.conn.execute(
                insert(TaskRow)
                .values(
                    title="tea",
                    conversation_id=talk.id,
                    budget_usd=None if budget is None else Decimal(budget),
                )
                .returning(TaskRow.id)
            )
            return added.scalar_one()

    async def counters(self) -> dict[tuple[str, int, str], tuple[Decimal, Decimal]]:
        """Return (spent, reserved) of every counter."""
        async with self.core.db.transaction() as tx:
            rows = await tx.conn.execute(select(BudgetCounterRow.__table__))
            return {
                (row["scope"], row["owner_id"], row["since"].isoformat()): (
                    row["spent_usd"],
                    row["reserved_usd"],
                )
                for row in rows.mappings()
            }

    async def calls(self) -> list[Any]:
        """Return the ledger."""
        async with self.core.db.transaction() as tx:
            rows = await tx.conn.execute(select(ModelCallRow.__table__).order_by(ModelCallRow.id))
            return list(rows)

    async def ledger(self) -> Decimal:
        """Return what all calls cost."""
        async with self.core.db.transaction() as tx:
            found = await tx.conn.scalar(select(func.sum(ModelCallRow.cost_usd)))
            return found or Decimal(0)

    async def events(self, type_: str) -> list[Any]:
        """Return the data of every event of a type."""
        async with self.core.db.transaction() as tx:
            rows = await tx.conn.execute(
                text("SELECT data FROM events WHERE type = :type ORDER BY id"), {"type": type_}
            )
            return [row[0] for row in rows]

    async def settle_left(self) -> int:
        return await LeftCalls(self.core.db).run()

    async def upkeep(self) -> int:
        return await BudgetUpkeep(self.core.db, self.core.budgets).run()

    async def price(self, amount: str) -> ModelPrice:
        """Set the price of the model that desks speak with, in USD for a million tokens."""
        from conclave.costs.commands import SetPrice

        return await self.core.costs.set_price(
            SetPrice(
                provider="openai",
                model="gpt-4o-mini",
                input_usd_per_million=Decimal(amount),
                output_usd_per_million=Decimal(amount),
            )
        )


@pytest.fixture
async def till(clean_database: Database, postgres_url: str) -> AsyncIterator[Till]:
    settings = Settings.model_validate(
        {"database_url": postgres_url, "encryption_key": new_key(), "advance_wait_seconds": 0.1}
    )
    environment = {"OPENAI_API_KEY": "sk-test-key-123456"}
    core = await build_core(settings, engine=FakeEngine(), name="till", environment=environment)
    clock = MovableClock()
    gateway = PricedGateway()
    till = Till(Desk(core, FakeEngine(), gateway), gateway, clock)
    core.budgets.clock = clock
    core.budgets.notifier = till.notifier
    core.budgets.tasks = cast(TaskDesk, till.tasks)
    yield till
    await core.close()
