"""Approvals on a real database, with people, and with fakes of what they ask of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import pytest
from pydantic import JsonValue
from sqlalchemy import func, insert, select, update

from conclave.approvals.budgets import BudgetIncreases
from conclave.approvals.commands import Decide
from conclave.approvals.dispatch import ApprovalDispatch
from conclave.approvals.service import ApprovalService
from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.errands import Errands
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.ports.events import EventBus
from schema.domain.approvals import BUDGET_INCREASE, Approval, ApprovalRequest, ApprovalStatus
from schema.domain.identity import Principal, PrincipalKind, Role
from schema.tables.agents import AgentRow
from schema.tables.audit import AuditEntryRow
from schema.tables.conversations import ConversationRow
from schema.tables.events import EventRow
from schema.tables.identity import UserRow
from schema.tables.tasks import TaskRow
from schema.tables.tools import ApprovalRow
from tests.fakes.approvals import FakeGrants, FakeNotifier, FakeSecurity, FakeTasks
from tests.fakes.engine import FakeEngine
from tests.waiting import until

OPERATORS, ADMINS, VIEWER = range(1, 13), (13, 14, 15), 16
"""Users of the database; a viewer is there too."""
YES, NO = Decide(approve=True), Decide(approve=False, reason="not now")


class SilentBus:
    def poke(self) -> None:
        """Nobody listens."""


def person(user_id: int) -> Principal:
    role = Role.ADMIN if user_id in ADMINS else Role.OPERATOR
    role = Role.VIEWER if user_id == VIEWER else role
    return Principal(kind=PrincipalKind.USER, id=user_id, user_id=user_id, role=role)


def key_of(user_id: int) -> Principal:
    """An API key with all the rights of its owner."""
    owner = person(user_id)
    return owner.model_copy(update={"kind": PrincipalKind.API_KEY, "id": 1000 + user_id})


@dataclass
class Desk:
    """The service and what stands around it."""

    db: Database
    service: ApprovalService
    engine: FakeEngine
    security: FakeSecurity
    tasks: FakeTasks
    notifier: FakeNotifier
    grants: FakeGrants
    errands: Errands

    async def ask(self, **fields: object) -> Approval:
        asked = {"type": "deploy", "action": "deploy", **fields}
        return await self.service.create(ApprovalRequest.model_validate(asked))

    async def decide(self, approval: Approval, principal: Principal, **said: object) -> Approval:
        command = Decide.model_validate({"approve": True, **said})
        return await self.service.decide(approval.id, command, principal)

    async def read(self, approval: Approval) -> Approval:
        return await self.service.get(approval.id, person(ADMINS[0]))

    async def shift(self, approval: Approval, **instants: int) -> None:
        """Move instants of an approval to so many seconds from now."""
        moved = {
            name: func.clock_timestamp() + timedelta(seconds=seconds)
            for name, seconds in instants.items()
        }
        async with self.db.transaction() as tx:
            wanted = ApprovalRow.id == approval.id
            await tx.conn.execute(update(ApprovalRow).where(wanted).values(moved))

    async def task(self, *, owner: str = "system", **fields: object) -> tuple[int, int]:
        """Store a task and its conversation; return the ids of both."""
        async with self.db.transaction() as tx:
            conversation = await tx.conn.scalar(
                insert(ConversationRow)
                .values(
                    kind="task", owner=owner, topic="t", status="active", agent_ids=[],
                    turn_strategy="round_robin",
                    auto_run=False, max_turns=5, turn_timeout=60,
                )
                .returning(ConversationRow.id)
            )  # fmt: skip
            task = await tx.conn.scalar(
                insert(TaskRow)
                .values(title="t", conversation_id=conversation, meta={}, **fields)
                .returning(TaskRow.id)
            )
        return cast("int", task), cast("int", conversation)

    async def agent(self) -> int:
        async with self.db.transaction() as tx:
            added = await tx.conn.scalar(
                insert(AgentRow)
                .values(slug="ada", name="Ada", provider="openai", model="m", personality={},
                        background={}, config={})
                .returning(AgentRow.id)
            )  # fmt: skip
        return cast("int", added)

    async def events(self, approval: Approval) -> list[tuple[str, dict[str, JsonValue]]]:
        """Return the types and the data of an approval's events."""
        async with self.db.transaction() as tx:
            rows = await tx.conn.execute(
                select(EventRow.type, EventRow.data)
                .where(EventRow.stream == f"approval-{approval.id}")
                .order_by(EventRow.seq)
            )
        return [(row.type, row.data) for row in rows]

    async def audited(self, approval: Approval) -> list[str]:
        async with self.db.transaction() as tx:
            rows = await tx.conn.scalars(
                select(AuditEntryRow.action)
                .where(AuditEntryRow.resource_id == str(approval.id))
                .order_by(AuditEntryRow.id)
            )
        return list(rows)


@pytest.fixture
async def desk(clean_database: Database) -> AsyncIterator[Desk]:
    engine, security, errands = FakeEngine(), FakeSecurity(), Errands()
    mailbox, events = Mailbox(), EventLog(cast("EventBus", SilentBus()))
    dispatch = ApprovalDispatch(clean_database, mailbox, errands, engine)
    service = ApprovalService(clean_database, events, AuditLog(), dispatch, security)
    tasks, notifier, grants = FakeTasks(), FakeNotifier(), FakeGrants()
    service.subjects = {BUDGET_INCREASE: BudgetIncreases(grants)}
    service.tasks, service.notifier = tasks, notifier
    roles = {user_id: person(user_id).role for user_id in (*OPERATORS, *ADMINS, VIEWER)}
    async with clean_database.transaction() as tx:
        people = [
            {"email": f"{user_id}@x.example", "full_name": "x", "role": role, "password_hash": "x"}
            for user_id, role in roles.items()
        ]
        await tx.conn.execute(insert(UserRow), people)
    yield Desk(clean_database, service, engine, security, tasks, notifier, grants, errands)
    await until(lambda: errands.is_idle, what="the errands")


def counted(approval: Approval) -> tuple[ApprovalStatus, int]:
    return approval.status, approval.approvals_count
