"""Dead letters: tasks that failed for good, and their second chances."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.errors import Missing
from conclave.events import EventLog
from conclave.tasks.commands import DeadLetterFilter, DeadLetterStats, ManualDeadLetter
from conclave.tasks.dead_letter_repository import OPEN, DeadLetterRepository
from conclave.tasks.endings import TaskEndings
from conclave.tasks.errors import (
    DeadLetterClosed,
    DeadLetterNotFound,
    DeadLetterOpen,
    TransitionRefused,
)
from conclave.tasks.transitions import TaskTransitions
from schema.domain.tasks import FINAL, DeadLetter, DeadLetterStatus, TaskStatus


class DeadLetterService:
    """The use cases of dead letters. A retry is another attempt at the same task."""

    def __init__(
        self, db: Database, events: EventLog, audit: AuditLog, endings: TaskEndings
    ) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._endings = endings
        self._transitions = TaskTransitions(endings)
        self._letters = DeadLetterRepository()

    async def list(
        self, wanted: DeadLetterFilter, limit: int, offset: int
    ) -> tuple[Sequence[DeadLetter], int]:
        """Return a page, newest first, and the number of all."""
        async with self._db.transaction() as tx:
            return await self._letters.list(tx, wanted, limit, offset)

    async def get(self, letter_id: int) -> DeadLetter:
        """Return one letter. Raises `DeadLetterNotFound`."""
        async with self._db.transaction() as tx:
            return await self._get(tx, letter_id)

    async def stats(self) -> DeadLetterStats:
        """Count the letters."""
        async with self._db.transaction() as tx:
            return await self._letters.stats(tx)

    async def add(self, wanted: ManualDeadLetter) -> DeadLetter:
        """Give a task up by hand: it fails, and what runs of it is stopped.

        Raises `Missing`, `DeadLetterOpen`, `TransitionRefused`.
        """
        async with self._db.transaction() as tx:
            task = await self._endings.hold(tx, wanted.task_id)
            if task is None:
                raise Missing("task_id", f"Task {wanted.task_id} not found")
            if task.status in FINAL:
                raise TransitionRefused(task.id, task.status, "given up")
            if await self._letters.open_of(tx, task.id) is not None:
                raise DeadLetterOpen(task.id)
            drafts, letter = await self._endings.give_up(
                tx,
                task,
                wanted.error_type,
                wanted.reason,
                source="manual",
                metadata=wanted.metadata,
            )
            await self._audit.record(
                tx, "dead_letter_added", "dead_letter", letter.id, details=wanted.reason
            )
            await self._events.append(tx, drafts)
        return letter

    async def retry(self, letter_id: int) -> DeadLetter:
        """Put the task back to pending. Raises `DeadLetterNotFound`, `DeadLetterClosed`."""
        async with self._db.transaction() as tx:
            letter = await self._letters.get(tx, letter_id)
            if letter is None:
                raise DeadLetterNotFound(letter_id)
            if not await self._retry(tx, letter):
                raise DeadLetterClosed(letter_id, letter.status.value)
            return await self._get(tx, letter_id)

    async def retry_all(self, error_type: str | None) -> tuple[int, int]:
        """Retry every letter whose task may succeed; return how many were, and were not.

        Each is a transaction of its own: one that cannot be retried does not hold up the others.
        """
        async with self._db.transaction() as tx:
            ids = await self._letters.retryable_ids(tx, error_type)
        retried = 0
        for letter_id in ids:
            async with self._db.transaction() as tx:
                letter = await self._letters.get(tx, letter_id)
                if letter is not None and await self._retry(tx, letter):
                    retried += 1
        return retried, len(ids) - retried

    async def discard(self, letter_id: int) -> None:
        """Close a letter for good; its task stays failed. Raises `DeadLetterNotFound`."""
        async with self._db.transaction() as tx:
            await self._get(tx, letter_id)
            await self._letters.discard(tx, letter_id)
            await self._audit.record(tx, "dead_letter_discarded", "dead_letter", letter_id)

    async def _retry(self, tx: Transaction, letter: DeadLetter) -> bool:
        """Retry a letter's task; False where it is not open any more."""
        task = await self._endings.hold(tx, letter.task_id)
        current = await self._letters.get(tx, letter.id, lock=True)
        if task is None or current is None or current.status not in OPEN:
            return False
        if task.status is not TaskStatus.FAILED:
            return False
        drafts = await self._transitions.reopen(tx, task)
        await self._audit.record(tx, "dead_letter_retried", "dead_letter", letter.id)
        await self._events.append(tx, drafts)
        return True

    async def _get(self, tx: Transaction, letter_id: int) -> DeadLetter:
        letter = await self._letters.get(tx, letter_id)
        if letter is None or letter.status is DeadLetterStatus.DISCARDED:
            raise DeadLetterNotFound(letter_id)
        return letter
