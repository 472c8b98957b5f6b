"""Triggers: what makes something happen by itself, and each time that it did."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from schema.domain.base import Shape

MOST_CHAIN_DEPTH: Final = 5
"""How many firings may follow from one another."""


class TriggerType(StrEnum):
    """What makes a trigger fire (platform.md, section 19)."""

    CRON = "cron"
    INTERVAL = "interval"
    EVENT = "event"
    WEBHOOK = "webhook"
    THRESHOLD = "threshold"

    @property
    def is_scheduled(self) -> bool:
        """Whether it has a Temporal Schedule of its own."""
        return self in {TriggerType.CRON, TriggerType.INTERVAL}


class ActionType(StrEnum):
    """What a firing does."""

    CREATE_TASK = "create_task"
    EXECUTE_WORKFLOW = "execute_workflow"
    SEND_NOTIFICATION = "send_notification"
    CALL_WEBHOOK = "call_webhook"
    START_CONVERSATION = "start_conversation"


class RunStatus(StrEnum):
    """How a firing stands; the last three are its ends."""

    PENDING = "pending"
    """Stored with what caused it; its workflow is owed."""
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    SKIPPED = "skipped"


ENDS: Final = (RunStatus.SUCCESS, RunStatus.FAILURE, RunStatus.SKIPPED)


class Made(StrEnum):
    """What kind of thing a firing left behind: events about it are the firing's doing."""

    TASK = "task"
    RUN = "run"
    CONVERSATION = "conversation"


class Metric(StrEnum):
    """What a threshold watches."""

    QUEUE_DEPTH = "queue_depth"
    FAILED_TASKS_1H = "failed_tasks_1h"
    DEAD_LETTER_OPEN = "dead_letter_open"
    COST_TODAY_USD = "cost_today_usd"
    BUDGET_PERCENT = "budget_percent"
    WORKERS_ONLINE = "workers_online"
    CPU_PERCENT = "cpu_percent"
    MEMORY_PERCENT = "memory_percent"


class Operator(StrEnum):
    """How a metric is compared with a threshold."""

    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EQ = "eq"
    NEQ = "neq"

    def holds(self, value: float, threshold: float) -> bool:
        """Whether `value` stands so to `threshold`."""
        return {
            Operator.GT: value > threshold,
            Operator.GTE: value >= threshold,
            Operator.LT: value < threshold,
            Operator.LTE: value <= threshold,
            Operator.EQ: value == threshold,
            Operator.NEQ: value != threshold,
        }[self]


class TriggerAction(Shape):
    """What is done, and with what; header values and the signing secret are kept apart, sealed."""

    type: ActionType
    config: dict[str, JsonValue]


class Trigger(Shape):
    """A trigger as stored. `config` and `action` never hold a secret's value."""

    id: int
    name: str
    type: TriggerType
    config: dict[str, JsonValue]
    action: TriggerAction
    slug: str | None
    """Where a webhook arrives."""
    has_secret: bool
    is_active: bool
    agent_name: str | None
    """Of the action's agent."""
    fire_count: int
    """Firings that did something or failed to; skipped ones are in the history alone."""
    last_fired_at: datetime | None
    last_status: RunStatus | None
    revision: int
    """Raised by every change that a person makes."""
    created_by: int | None
    created_by_key: str
    armed_at: datetime
    """Since when it is active as it is now: what happened before does not fire it."""
    created_at: datetime
    updated_at: datetime


class TriggerRun(Shape):
    """One firing."""

    id: int
    trigger_id: int
    firing_key: str
    status: RunStatus
    event_data: dict[str, JsonValue]
    result: dict[str, JsonValue]
    error: str | None
    chain_depth: int
    attempts: int
    """Of an action that may have been done more than once: a call to a webhook."""
    duration_ms: Decimal
    created_at: datetime


class TriggerStats(Shape):
    """What became of a trigger's firings. `success_rate` is a percentage of those not skipped."""

    total_executions: int
    success_rate: float
    avg_duration_ms: float
    execution_counts: dict[str, int]


class TriggerDetail(Shape):
    """A trigger with its history in short."""

    trigger: Trigger
    stats: TriggerStats
    recent: list[TriggerRun]
    next_fire_at: datetime | None
