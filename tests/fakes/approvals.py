"""What approvals ask of others, in memory: each remembers what it was told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue
from sqlalchemy import select

from conclave.db import Transaction
from schema.domain.approvals import Approval, BudgetIncrease
from schema.domain.notifications import Severity
from schema.domain.security import ApprovalPolicy, IpRule, SecurityConfig
from schema.domain.tasks import NewTask, Task
from schema.tables.conversations import ConversationRow
from schema.tables.tasks import TaskRow


@dataclass
class Told:
    """One notification."""

    title: str
    severity: Severity
    event_type: str | None
    user_ids: Collection[int] | None
    metadata: Mapping[str, JsonValue]


@dataclass
class FakeNotifier:
    """A `Notifier` that stores nothing."""

    told: list[Told] = field(default_factory=list[Told])

    async def notify(
        self,
        tx: Transaction,
        *,
        title: str,
        message: str,
        severity: Severity = Severity.INFO,
        event_type: str | None = None,
        user_ids: Collection[int] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> list[int]:
        self.told.append(Told(title, severity, event_type, user_ids, metadata or {}))
        return []


@dataclass
class FakeTasks:
    """A `TaskDesk` of which approvals ask one thing; it locks what the real one does."""

    changed: list[int] = field(default_factory=list[int])

    async def approvals_changed(self, tx: Transaction, task_id: int) -> None:
        conversation_id = await tx.conn.scalar(
            select(TaskRow.conversation_id).where(TaskRow.id == task_id)
        )
        conversation = select(ConversationRow.id).where(ConversationRow.id == conversation_id)
        await tx.conn.execute(conversation.with_for_update())
        await tx.conn.execute(select(TaskRow.id).where(TaskRow.id == task_id).with_for_update())
        self.changed.append(task_id)

    async def add(self, tx: Transaction, wanted: NewTask) -> Task:
        raise NotImplementedError

    async def of_origin(self, tx: Transaction, key: str) -> Task | None:
        raise NotImplementedError

    async def of_run(self, tx: Transaction, workflow_run_id: int) -> list[Task]:
        raise NotImplementedError

    async def cancel(self, tx: Transaction, task_id: int, reason: str) -> None:
        raise NotImplementedError

    async def release(self, tx: Transaction, agent_id: int, *, keep_agent: bool) -> None:
        raise NotImplementedError

    async def dispatch_soon(self, tx: Transaction) -> None:
        raise NotImplementedError

    async def budget_changed(self, tx: Transaction) -> None:
        raise NotImplementedError


@dataclass
class FakeGrants:
    """A `BudgetGrants`."""

    granted_to: list[BudgetIncrease] = field(default_factory=list[BudgetIncrease])

    async def granted(self, tx: Transaction, approval: Approval) -> None:
        self.granted_to.append(BudgetIncrease.of(approval))


class FakeSecurity:
    """A `SecurityPolicy` whose rules for approvals a test sets."""

    def __init__(self) -> None:
        self.approvals = ApprovalPolicy()

    def set(self, **fields: object) -> None:
        self.approvals = ApprovalPolicy.model_validate(fields)

    async def current(self) -> SecurityConfig:
        return SecurityConfig(approvals=self.approvals)

    def last_known(self) -> SecurityConfig:
        return SecurityConfig(approvals=self.approvals)

    async def ip_rules(self) -> Sequence[IpRule]:
        return []
