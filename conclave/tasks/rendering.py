"""What is told of tasks: their events, and what the agent is told."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pydantic import JsonValue

from conclave.tasks.commands import UpdateTask
from schema.domain.events import EventDraft, EventType
from schema.domain.tasks import DeadLetter, NewTask, Task, TaskHead

_RESULT_CHARACTERS = 2000


def task_stream(task_id: int) -> str:
    """Return the stream that everything about one task stands on."""
    return f"task-{task_id}"


def task_event(
    task: TaskHead, type_: EventType, *, changed: Collection[str] = (), **more: JsonValue
) -> EventDraft:
    """Return an event of platform.md, section 29; `more` is what its type tells besides."""
    data: dict[str, JsonValue] = {
        "id": task.id,
        "title": task.title,
        "status": task.status.value,
        "priority": task.priority.value,
        "agent_id": task.agent_id,
        "workflow_id": task.workflow_id,
        "chain_depth": task.chain_depth,
    }
    if type_ is EventType.TASK_UPDATED:
        data["progress_percent"] = task.progress_percent
        data["changed"] = [*sorted(changed)]
    return EventDraft(
        stream=task_stream(task.id), type=type_, data=data | more, agent_id=task.agent_id
    )


def created_event(task: Task) -> EventDraft:
    """Return the event of a new task."""
    return task_event(task, EventType.TASK_CREATED, created_at=task.created_at.isoformat())


def completed_event(
    task: TaskHead, result: str | None, completed_at: datetime, seconds: float | None
) -> EventDraft:
    """Return the event of a task that is done."""
    return task_event(
        task,
        EventType.TASK_COMPLETED,
        result=None if result is None else result[:_RESULT_CHARACTERS],
        completed_at=completed_at.isoformat(),
        duration_seconds=None if seconds is None else round(seconds, 3),
    )


def failed_event(task: Task, dead_letter_id: int) -> EventDraft:
    """Return the event of a task that failed for good."""
    return task_event(
        task,
        EventType.TASK_FAILED,
        error=task.error,
        error_type=task.error_type,
        retry_count=task.retry_count,
        max_retries=task.max_retries,
        dead_letter_id=dead_letter_id,
    )


def dead_letter_event(letter: DeadLetter) -> EventDraft:
    """Return the event that tells of a new dead letter."""
    return EventDraft(
        stream=task_stream(letter.task_id),
        type=EventType.DEAD_LETTER_ADDED,
        data={
            "id": letter.id,
            "task_id": letter.task_id,
            "task_title": letter.task_title,
            "error_type": letter.error_type,
            "error_message": letter.error_message,
        },
        agent_id=letter.agent_id,
    )


def seconds_of(task: Task) -> float | None:
    """Return how long it took from its first start to its end."""
    if task.started_at is None or task.completed_at is None:
        return None
    return (task.completed_at - task.started_at).total_seconds()


def prompt_of(task: NewTask) -> str:
    """Return what the agent is given to work on."""
    parts = [f"Your task: {task.title}"]
    if task.description:
        parts.append(task.description)
    if task.instructions:
        parts.append(f"Instructions:\n{task.instructions}")
    parts.append(
        "Work on it with the tools you have until it is done. Your last message, without a call "
        "of a tool, is the task's result."
    )
    return "\n\n".join(parts)


def note_of(attempt_error: str | None) -> str:
    """Return what the agent is told at the start of another attempt."""
    reason = f" The last attempt ended with: {attempt_error}" if attempt_error else ""
    return (
        f"This is another attempt at the task.{reason}\n\nGo on from where you stopped: what was "
        "done before stands above, and need not be done again."
    )


def amendment_of(task: Task, command: UpdateTask, changed: Collection[str]) -> str:
    """Return what the agent is told of a change while it works."""
    told = {
        "title": ("Title", command.title),
        "description": ("Description", command.description),
        "instructions": ("Instructions", command.instructions),
        "deadline": ("Deadline", command.deadline and command.deadline.isoformat()),
    }
    lines = [f"{told[name][0]}: {told[name][1] or 'none'}" for name in told if name in changed]
    return "The task was changed while you work on it. From now on:\n\n" + "\n\n".join(lines)
