"""What the workflows of a project do to its files and its record. Each is safe to repeat."""

from __future__ import annotations

from conclave.db import Database, Transaction
from conclave.errors import Unavailable
from conclave.events import EventLog
from conclave.ports.workspaces import ProgressSink, Workspace, WorkspaceStore
from conclave.workspaces.errors import CheckoutGivenUp
from conclave.workspaces.rendering import checkout_event
from conclave.workspaces.repository import ProjectRepository
from schema.domain.projects import CheckoutStatus, Project
from schema.payloads.checkout import (
    CheckoutInput,
    CheckoutOutcome,
    CheckoutResult,
    CheckoutSettleInput,
)

TRIES = 8
"""How often a remote that does not answer is asked: about four minutes with the waits between."""
EMPTY_BRANCH = "main"
_FINAL = {
    CheckoutStatus.READY: CheckoutOutcome.READY,
    CheckoutStatus.FAILED: CheckoutOutcome.FAILED,
}


class CheckoutService:
    """Makes a project's workspace out of sight and puts it in its place whole."""

    def __init__(self, db: Database, events: EventLog, store: WorkspaceStore) -> None:
        self._db = db
        self._events = events
        self._store = store
        self._projects = ProjectRepository()

    async def clone(
        self, asked: CheckoutInput, *, attempt: int, progress: ProgressSink
    ) -> CheckoutResult:
        """Clone the project's repository, or make an empty one.

        A second call finds the first one's work in place and returns what it did. Raises
        `Unavailable` where another try may help and `CheckoutGivenUp` after `TRIES` of them.
        """
        async with self._db.transaction() as tx:
            project = await self._wanted(tx, asked)
            if project is None or project.checkout_status in _FINAL:
                return CheckoutResult(outcome=_outcome(project))
            if project.checkout_status is CheckoutStatus.PENDING:
                await self._set(tx, project, CheckoutStatus.CLONING)
        staged = await self._store.stage(str(project.id))
        try:
            branch = await self._filled(staged, project, attempt, progress)
            return await self._installed(asked, staged, branch)
        except BaseException:
            await self._store.discard(staged)
            raise

    async def _filled(
        self, staged: Workspace, project: Project, attempt: int, progress: ProgressSink
    ) -> str | None:
        """Make the repository; return the branch it is on."""
        if project.repository_url is None:
            branch = project.default_branch or EMPTY_BRANCH
            await staged.repository.init(branch)
            return branch
        try:
            return await staged.repository.clone(
                project.repository_url, branch=project.default_branch, progress=progress
            )
        except Unavailable as error:
            if attempt < TRIES or error.code == "unavailable":
                raise
            raise CheckoutGivenUp(f"{error.message} ({TRIES} tries)") from None

    async def _installed(
        self, asked: CheckoutInput, staged: Workspace, branch: str | None
    ) -> CheckoutResult:
        """Put the workspace in its place while the row is locked.

        A delete waits for that lock, so that its removal finds whatever was put there. Files that
        lie there although the row does not say so are of an attempt that could not commit.
        """
        async with self._db.transaction() as tx:
            project = await self._wanted(tx, asked)
            if project is None or project.checkout_status in _FINAL:
                await self._store.discard(staged)
                return CheckoutResult(outcome=_outcome(project))
            await self._store.install(staged, str(project.id))
            await self._set(tx, project, CheckoutStatus.READY, branch=branch)
        return CheckoutResult(outcome=CheckoutOutcome.READY)

    async def settle(self, asked: CheckoutSettleInput) -> CheckoutResult:
        """Store that this run failed, unless it succeeded or is not wanted any more."""
        async with self._db.transaction() as tx:
            project = await self._wanted(tx, CheckoutInput.model_validate(asked.model_dump()))
            if project is None or project.checkout_status in _FINAL:
                return CheckoutResult(outcome=_outcome(project))
            await self._set(tx, project, CheckoutStatus.FAILED, reason=asked.reason)
        return CheckoutResult(outcome=CheckoutOutcome.FAILED)

    async def remove(self, project_id: int) -> None:
        """Remove a deleted project's files, and what was being made for it."""
        async with self._db.transaction() as tx:
            if await self._projects.get(tx, project_id) is not None:
                return
        await self._store.remove(str(project_id))

    async def _wanted(self, tx: Transaction, asked: CheckoutInput) -> Project | None:
        """Return the project, locked; None where it is deleted or a later run's."""
        project = await self._projects.get(tx, asked.project_id, lock=True)
        return None if project is None or project.checkout_run != asked.run else project

    async def _set(
        self,
        tx: Transaction,
        project: Project,
        status: CheckoutStatus,
        *,
        reason: str | None = None,
        branch: str | None = None,
    ) -> None:
        await self._projects.set_checkout(tx, project.id, status, reason=reason, branch=branch)
        await self._events.append(tx, [checkout_event(project, status.value, reason)])


def _outcome(project: Project | None) -> CheckoutOutcome:
    """Return how a run ended that has nothing left to do."""
    return CheckoutOutcome.SUPERSEDED if project is None else _FINAL[project.checkout_status]
