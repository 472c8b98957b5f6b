"""What firings do in the record: tasks, runs of pipelines, notifications, conversations.

Each is part of the transaction that ends the firing, and carries the firing's key, so that it is
there once. Calls to other people's servers are `conclave.triggers.calls`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import JsonValue

from conclave.db import Transaction
from conclave.triggers.desks import Desks
from conclave.triggers.errors import ActionNotPossible
from conclave.triggers.templates import fill, fill_all
from schema.domain.tasks import NewTask, TaskOrigin
from schema.domain.trigger_configs import (
    CreateTaskConfig,
    ExecuteWorkflowConfig,
    SendNotificationConfig,
    StartConversationConfig,
)
from schema.domain.triggers import ActionType, Made, RunStatus, Trigger, TriggerRun

_LONGEST = 100_000
_LONGEST_TITLE = 500
_Desk = TypeVar("_Desk")


@dataclass(frozen=True)
class Done:
    """How a firing ended, and what it left behind."""

    status: RunStatus
    result: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    error: str | None = None
    made: tuple[Made, int] | None = None


def origin_key(run_id: int) -> str:
    """Return the key under which what a firing makes is made once."""
    return f"trigger-run-{run_id}"


class Actions:
    """Carries out what is stored here."""

    def __init__(self, desks: Desks) -> None:
        self._desks = desks

    async def carry_out(self, tx: Transaction, trigger: Trigger, run: TriggerRun) -> Done:
        """Do it. Raises the `ConclaveError` of whoever refuses."""
        match trigger.action.type:
            case ActionType.CREATE_TASK:
                return await self._create_task(tx, trigger, run)
            case ActionType.EXECUTE_WORKFLOW:
                return await self._execute_workflow(tx, trigger, run)
            case ActionType.SEND_NOTIFICATION:
                return await self._notify(tx, trigger, run)
            case ActionType.START_CONVERSATION:
                return await self._start_conversation(tx, trigger, run)
            case ActionType.CALL_WEBHOOK:
                raise ActionNotPossible("A call to a webhook stores nothing")

    async def _create_task(self, tx: Transaction, trigger: Trigger, run: TriggerRun) -> Done:
        desk = _present(self._desks.tasks, "Tasks")
        config = CreateTaskConfig.model_validate(trigger.action.config)
        minutes = config.deadline_minutes
        wanted = NewTask(
            title=_title(config.title, run),
            description=_text(config.description, run),
            instructions=_text(config.instructions, run),
            priority=config.priority,
            agent_id=config.agent_id,
            required_tools=config.required_tools,
            deadline=None if minutes is None else datetime.now(UTC) + timedelta(minutes=minutes),
            metadata={"trigger_id": trigger.id, "trigger_run_id": run.id},
            assigned_by=trigger.created_by,
            origin=TaskOrigin(key=origin_key(run.id), chain_depth=run.chain_depth + 1),
        )
        task = await desk.add(tx, wanted)
        return Done(RunStatus.SUCCESS, {"task_id": task.id}, made=(Made.TASK, task.id))

    async def _execute_workflow(self, tx: Transaction, trigger: Trigger, run: TriggerRun) -> Done:
        desk = _present(self._desks.pipelines, "Workflows")
        config = ExecuteWorkflowConfig.model_validate(trigger.action.config)
        given = fill_all(dict(config.input), run.event_data)
        started = await desk.start(
            tx,
            config.workflow_id,
            given if isinstance(given, dict) else {},
            origin_key=origin_key(run.id),
            trigger_id=trigger.id,
            chain_depth=run.chain_depth + 1,
        )
        if started is None:
            return Done(RunStatus.SKIPPED, error="The workflow is at its limit of active runs")
        return Done(RunStatus.SUCCESS, {"run_id": started}, made=(Made.RUN, started))

    async def _notify(self, tx: Transaction, trigger: Trigger, run: TriggerRun) -> Done:
        config = SendNotificationConfig.model_validate(trigger.action.config)
        if config.channel_id is not None or config.channel != "in_app":
            raise ActionNotPossible(
                f"Nothing can be sent on the channel {config.channel_id or config.channel} yet:"
                " only in_app"
            )
        notifier = _present(self._desks.notifier, "Notifications")
        sent = await notifier.notify(
            tx,
            title=_title(config.title, run),
            message=_text(config.message, run) or "",
            severity=config.severity,
            event_type="trigger.fired",
            user_ids=None if config.user_id is None else [config.user_id],
            metadata={"trigger_id": trigger.id, "trigger_run_id": run.id},
        )
        return Done(RunStatus.SUCCESS, {"notification_ids": list(sent)})

    async def _start_conversation(self, tx: Transaction, trigger: Trigger, run: TriggerRun) -> Done:
        starter = _present(self._desks.conversations, "Conversations")
        config = StartConversationConfig.model_validate(trigger.action.config)
        started = await starter.start(
            tx,
            topic=_title(config.topic, run),
            agent_ids=config.agent_ids,
            circle_name=config.circle_name,
            prompt=_text(config.prompt, run),
            max_turns=config.max_turns,
            owner=trigger.created_by_key,
        )
        made = (Made.CONVERSATION, started)
        return Done(RunStatus.SUCCESS, {"conversation_id": started}, made=made)


def _present(desk: _Desk | None, what: str) -> _Desk:
    if desk is None:
        raise ActionNotPossible(f"{what} are not part of this build")
    return desk


def _title(text: str, run: TriggerRun) -> str:
    return fill(text, run.event_data).strip()[:_LONGEST_TITLE] or "(without a title)"


def _text(text: str | None, run: TriggerRun) -> str | None:
    return None if text is None else fill(text, run.event_data)[:_LONGEST]
