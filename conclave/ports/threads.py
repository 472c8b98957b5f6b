"""The transcripts that tasks are worked on in, inside the tasks' own transactions.

A thread is a conversation of kind TASK; each attempt is an execution of it. What is locked: the
thread first, then its task.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from conclave.db import Transaction
from schema.domain.base import Shape
from schema.domain.conversations import ConversationStatus
from schema.domain.inbox import InboxItem


class NewThread(Shape):
    """A thread about to be opened; `prompt` is what it begins with."""

    owner: str
    topic: str
    prompt: str
    project_id: int | None = None


class Attempt(Shape):
    """An attempt about to begin; `note` is what the agent is told of the one before."""

    conversation_id: int
    agent_id: int
    note: str | None = None


class Begun(Shape):
    """An attempt that has begun."""

    conversation_id: int
    execution: int
    turn_count: int
    turn_timeout: int


class TaskThreads(Protocol):
    """Begins and closes threads."""

    async def lock(self, tx: Transaction, conversation_ids: Collection[int]) -> set[int]:
        """Lock those that nobody else holds; return which."""
        ...

    async def hold(self, tx: Transaction, conversation_id: int) -> None:
        """Lock one, waiting for whoever holds it."""
        ...

    async def begin(self, tx: Transaction, attempts: Sequence[Attempt]) -> dict[int, Begun]:
        """Begin attempts on locked threads, by conversation: what earlier ones commit is void."""
        ...

    async def close(
        self, tx: Transaction, conversation_id: int, status: ConversationStatus, reason: str
    ) -> None:
        """Stop what runs on a locked thread: from now on nothing of it commits.

        A model call that was cut is settled at its worst case, open tool calls and their
        approvals are cancelled, waiting changes are answered.
        """
        ...

    async def amend(
        self, tx: Transaction, conversation_id: int, principal: str, text: str, task_id: int
    ) -> InboxItem:
        """Put a change before the agent at its next turn; the task's wake-up is owed."""
        ...

    async def waiting(self, tx: Transaction, conversation_id: int) -> list[InboxItem]:
        """Return the changes that wait."""
        ...
