"""Projects: making, finding, changing and deleting them, and opening their workspaces."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.auditing import AuditLog, changed
from conclave.db import Database, Transaction
from conclave.events import EventLog
from conclave.ports.urls import RemoteUrls
from conclave.ports.workspaces import Workspace, WorkspaceStore
from conclave.workspaces.commands import CreateProject, UpdateProject
from conclave.workspaces.dispatch import ProjectDispatch
from conclave.workspaces.errors import (
    CheckoutNotReady,
    ProjectNotFound,
    ProjectTaken,
    RepositoryFixed,
)
from conclave.workspaces.rendering import checkout_event, described, project_event
from conclave.workspaces.repository import ProjectRepository
from schema.domain.events import EventType
from schema.domain.projects import CheckoutStatus, Project
from schema.domain.workspaces import task_branch, task_place

_CHECKOUT_DEPENDS_ON = ("repository_url", "default_branch")


class ProjectService:
    """The use cases of projects."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        audit: AuditLog,
        dispatch: ProjectDispatch,
        remotes: RemoteUrls,
    ) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._dispatch = dispatch
        self._remotes = remotes
        self._projects = ProjectRepository()

    async def create(self, command: CreateProject) -> Project:
        """Store a new project; its checkout is made by a workflow.

        Raises `ProjectTaken`, and `UrlRefused` for an address that may not be reached.
        """
        if command.repository_url is not None:
            await self._remotes.check(command.repository_url, field="repository_url")
        async with self._db.transaction() as tx:
            project = await self._projects.insert(tx, command.model_dump(mode="json"))
            if project is None:
                raise _taken(command)
            await self._audit.record(
                tx,
                "project_created",
                "project",
                project.id,
                changes=changed({}, described(project)),
            )
            await self._dispatch.owe(tx, project.id)
            await self._events.append(tx, [project_event(project, EventType.PROJECT_CREATED)])
        return project

    async def get(self, project_id: int) -> Project:
        """Return one project. Raises `ProjectNotFound`."""
        async with self._db.transaction() as tx:
            return await self._get(tx, project_id)

    async def list(self, limit: int, offset: int) -> tuple[Sequence[Project], int]:
        """Return a piece of the list, oldest first, and the length of the whole."""
        async with self._db.transaction() as tx:
            return await self._projects.list(tx, limit, offset)

    async def update(self, project_id: int, command: UpdateProject) -> Project:
        """Apply what was set.

        Before the checkout is ready a repository or branch that is set starts another one, the
        same repository too where the last try failed. Raises `ProjectNotFound`, `ProjectTaken`,
        `RepositoryFixed` and `UrlRefused`.
        """
        values: dict[str, object] = command.model_dump(mode="json", exclude_unset=True)
        if command.repository_url is not None:
            await self._remotes.check(command.repository_url, field="repository_url")
        async with self._db.transaction() as tx:
            before = await self._get(tx, project_id, lock=True)
            again = _needs_checkout(before, values)
            if not again and all(getattr(before, key) == values[key] for key in values):
                return before
            if again:
                values |= {
                    "checkout_run": before.checkout_run + 1,
                    "checkout_status": CheckoutStatus.PENDING.value,
                    "checkout_reason": None,
                }
            project = await self._projects.update(tx, project_id, values)
            if project is None:
                raise _taken(before.model_copy(update=command.model_dump(exclude_unset=True)))
            await self._told(tx, before, project)
            if again:
                await self._dispatch.owe(tx, project_id)
        return project

    async def _told(self, tx: Transaction, before: Project, project: Project) -> None:
        changes = changed(described(before), described(project))
        await self._audit.record(tx, "project_updated", "project", project.id, changes=changes)
        drafts = [project_event(project, EventType.PROJECT_UPDATED, changed=[*sorted(changes)])]
        if project.checkout_run != before.checkout_run:
            drafts.append(checkout_event(project, project.checkout_status.value))
        await self._events.append(tx, drafts)

    async def delete(self, project_id: int) -> None:
        """Delete a project at once; a workflow removes its files. Raises `ProjectNotFound`."""
        async with self._db.transaction() as tx:
            project = await self._get(tx, project_id, lock=True)
            await self._projects.delete(tx, project_id)
            await self._audit.record(
                tx,
                "project_deleted",
                "project",
                project_id,
                changes=changed(described(project), {}),
            )
            await self._dispatch.owe(tx, project_id)
            await self._events.append(tx, [project_event(project, EventType.PROJECT_DELETED)])

    async def _get(self, tx: Transaction, project_id: int, *, lock: bool = False) -> Project:
        project = await self._projects.get(tx, project_id, lock=lock)
        if project is None:
            raise ProjectNotFound(project_id)
        return project


class WorkspaceService:
    """Opens workspaces: of projects, of their tasks, and of chats that have none."""

    def __init__(self, projects: ProjectService, store: WorkspaceStore) -> None:
        self._projects = projects
        self._store = store

    async def open(self, project_id: int) -> tuple[Project, Workspace]:
        """Return a project and its files.

        Raises `ProjectNotFound`, and `CheckoutNotReady` before the checkout is whole.
        """
        project = await self._projects.get(project_id)
        if project.checkout_status is not CheckoutStatus.READY:
            raise CheckoutNotReady(project_id, project.checkout_status, project.checkout_reason)
        return project, self._store.workspace(str(project_id))

    async def of_task(self, project_id: int, task_id: int) -> tuple[Project, Workspace]:
        """Return a project and the files of one task of it, made when they are first asked for.

        They begin as the project's default branch is then, and their commits show as a branch of
        the project's repository. Raises as `open` does, and what git raises.
        """
        project, _ = await self.open(project_id)
        workspace = await self._store.branch(
            task_place(task_id),
            of=str(project_id),
            branch=task_branch(task_id),
            base=project.default_branch,
        )
        return project, workspace

    async def scratch(self, name: str) -> Workspace:
        """Return the files that belong to `name` (`chat-7`), making an empty place at first.

        It has no repository until somebody makes one.
        """
        return await self._store.make(name)


def _needs_checkout(before: Project, values: dict[str, object]) -> bool:
    """Whether what is set asks for another checkout. Raises `RepositoryFixed`."""
    differs = [
        key for key in _CHECKOUT_DEPENDS_ON if key in values and values[key] != getattr(before, key)
    ]
    if before.checkout_status is CheckoutStatus.READY:
        if "repository_url" in differs:
            raise RepositoryFixed
        return False
    is_retry = before.checkout_status is CheckoutStatus.FAILED and "repository_url" in values
    return bool(differs) or is_retry


def _taken(wanted: CreateProject | Project) -> ProjectTaken:
    assert wanted.source is not None
    assert wanted.source_project_id is not None
    return ProjectTaken(wanted.source, wanted.source_project_id)
