"""What budgets tell others, written down."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from conclave.db import Transaction
from schema.domain.notifications import Severity


@dataclass
class FakeNotifier:
    """Implements `conclave.ports.notifications.Notifier`."""

    told: list[tuple[str, Severity, Mapping[str, JsonValue]]] = field(default_factory=list)

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
        self.told.append((message, severity, metadata or {}))
        return []


@dataclass
class WaitingTasks:
    """The part of `conclave.ports.tasks.TaskDesk` that budgets use."""

    woken: int = 0

    async def budget_changed(self, tx: Transaction) -> None:
        self.woken += 1


@dataclass
class MovableClock:
    """The time, as far as budgets go."""

    now: datetime = datetime(2031, 5, 17, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_days(self, days: int) -> None:
        self.now += timedelta(days=days)
