"""What triggers turn to, as fakes: an engine that remembers, and desks that store nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from conclave.db import Transaction
from conclave.errors import ExecutionClosed, Missing, Unavailable
from schema.domain.notifications import Severity
from schema.domain.tasks import NewTask, Task, TaskStatus
from schema.payloads.triggers import TriggerInput, TriggerSchedule

_NOW = datetime(2027, 1, 1, tzinfo=UTC)


@dataclass
class FakeTriggerEngine:
    """Implements `conclave.ports.triggers.TriggerEngine`; `down` makes every call fail."""

    schedules: dict[int, TriggerSchedule] = field(default_factory=dict[int, TriggerSchedule])
    checks: set[int] = field(default_factory=set[int])
    fired: list[tuple[TriggerInput, str]] = field(default_factory=list[tuple[TriggerInput, str]])
    closed: bool = False
    down: bool = False
    next_at: datetime = datetime(2030, 1, 1, tzinfo=UTC)

    def reset(self) -> None:
        """Forget everything and be well again."""
        self.schedules.clear()
        self.checks.clear()
        self.fired.clear()
        self.down = self.closed = False

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("Temporal cannot be reached.", dependency="temporal")

    async def keep_schedule(self, wanted: TriggerSchedule) -> None:
        self._answer()
        self.schedules[wanted.trigger_id] = wanted

    async def remove_schedule(self, trigger_id: int) -> None:
        self._answer()
        self.schedules.pop(trigger_id, None)

    async def next_times(self, trigger_ids: Collection[int]) -> Mapping[int, datetime]:
        return {one: self.next_at for one in trigger_ids if one in self.schedules}

    async def start_firing(self, asked: TriggerInput, firing_key: str) -> None:
        self._answer()
        if self.closed:
            raise ExecutionClosed("That run is over.")
        self.fired.append((asked, firing_key))

    async def keep_checks(self, every_seconds: int) -> None:
        self._answer()
        self.checks.add(every_seconds)

    async def remove_checks(self, every_seconds: int) -> None:
        self._answer()
        self.checks.discard(every_seconds)


@dataclass
class FakeTasks:
    """A TaskMaker that stores nothing: the same key is the same task."""

    asked: list[NewTask] = field(default_factory=list[NewTask])
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    refuses: Exception | None = None

    async def add(self, tx: Transaction, wanted: NewTask) -> Task:
        self.asked.append(wanted)
        if self.refuses is not None:
            raise self.refuses
        assert wanted.origin is not None
        return self.tasks.setdefault(wanted.origin.key, a_task(len(self.tasks) + 1, wanted))


def a_task(task_id: int, wanted: NewTask) -> Task:
    return Task.model_validate(
        {
            **dict.fromkeys(Task.model_fields),
            **wanted.model_dump(exclude={"origin"}),
            "id": task_id,
            "status": TaskStatus.PENDING,
            "conversation_id": task_id,
            "attempt": 1,
            "output_files": [],
            "overdue": False,
            "retry_count": 0,
            "progress_percent": 0,
            "cost_tokens": 0,
            "cost_usd": Decimal(0),
            "chain_depth": 0 if wanted.origin is None else wanted.origin.chain_depth,
            "created_at": _NOW,
            "updated_at": _NOW,
        }
    )


@dataclass
class FakePipelines:
    """A PipelineDesk and PipelineCatalogue that knows pipelines 1 to 9; `full`: at their limit."""

    started: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    full: bool = False

    async def exists(self, tx: Transaction, workflow_id: int) -> bool:
        return workflow_id < 10

    async def start(
        self,
        tx: Transaction,
        workflow_id: int,
        given: Mapping[str, Any],
        *,
        origin_key: str,
        trigger_id: int | None = None,
        chain_depth: int = 0,
    ) -> int | None:
        if not await self.exists(tx, workflow_id):
            raise Missing("workflow_id", f"Workflow {workflow_id} not found")
        if self.full:
            return None
        self.started[origin_key] = {
            "workflow_id": workflow_id,
            "input": dict(given),
            "trigger_id": trigger_id,
            "chain_depth": chain_depth,
        }
        return 70 + len(self.started)


@dataclass
class FakeNotifier:
    """Remembers what it was told."""

    sent: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def notify(
        self,
        tx: Transaction,
        *,
        title: str,
        message: str,
        severity: Severity = Severity.INFO,
        event_type: str | None = None,
        user_ids: Collection[int] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[int]:
        self.sent.append(
            {"title": title, "message": message, "severity": severity, "user_ids": user_ids}
        )
        return [len(self.sent)]
