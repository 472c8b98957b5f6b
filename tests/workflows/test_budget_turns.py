"""Turns that meet a budget, on a real engine."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import func, select, update

from conclave.conversations.commands import Advance, Advanced
from conclave.errors import BudgetExhausted
from schema.domain.agents import AgentStatus
from schema.domain.conversations import ConversationStatus
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.tables.agents import AgentRow
from schema.tables.costs import BudgetCounterRow
from schema.tables.model_calls import ModelCallRow
from tests.harness.stack import Stack


async def advance(stack: Stack, conversation_id: int, prompt: str) -> Advanced:
    return await stack.core.conversations.advance(
        conversation_id, Advance(prompt=prompt), LOCAL_PRINCIPAL, wait=True
    )


async def allow(stack: Stack, agent_id: int, usd: str) -> None:
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            update(AgentRow)
            .where(AgentRow.id == agent_id)
            .values(daily_budget_usd=Decimal(usd), updated_at=func.clock_timestamp())
        )


async def test_a_turn_beyond_the_budget_fails_with_the_reason_and_one_within_it_goes_on(
    stack: Stack,
):
    [ada] = await stack.agents("Ada")
    talk = await stack.conversation([ada], auto_run=False)
    await advance(stack, talk.id, "first")
    await allow(stack, ada.id, "0.000001")
    with pytest.raises(BudgetExhausted, match=f"daily budget of agent {ada.id}"):
        await advance(stack, talk.id, "second")
    stored = await stack.get(talk.id)
    assert stored.status is ConversationStatus.FAILED
    assert stored.reason is not None
    assert "does not cover this call" in stored.reason
    assert (await stack.core.agents.get(ada.id)).status is AgentStatus.PAUSED
    assert len(stack.model.requests) == 1

    await allow(stack, ada.id, "1")
    await advance(stack, talk.id, "third")
    assert [message.content for message in await stack.messages(talk.id)][::2] == ["first", "third"]
    async with stack.core.db.transaction() as tx:
        cost = await tx.conn.scalar(
            select(func.sum(ModelCallRow.cost_usd)).where(ModelCallRow.agent_id == ada.id)
        )
        counter = await tx.conn.execute(
            select(BudgetCounterRow.spent_usd, BudgetCounterRow.reserved_usd).where(
                BudgetCounterRow.owner_id == ada.id
            )
        )
    assert counter.one() == (cost, 0)
    assert cost == (await stack.get(talk.id)).cost_usd > 0


async def test_a_conversation_that_runs_by_itself_stops_at_its_budget(stack: Stack):
    [ada] = await stack.agents("Ada")
    await allow(stack, ada.id, "0.000001")
    talk = await stack.conversation([ada], initial_prompt="Begin.", max_turns=3)
    failed = await stack.reaches(talk.id, ConversationStatus.FAILED)
    assert failed.turn_count == 0
    assert stack.model.requests == []
