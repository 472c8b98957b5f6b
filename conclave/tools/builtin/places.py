"""The workspace a call works in."""

from __future__ import annotations

from typing import Protocol

from conclave.errors import Forbidden
from conclave.ports.workspaces import Workspace, Workspaces
from schema.domain.sandbox import SandboxConfig, WorkspaceMode
from schema.domain.tools import ToolPlace
from schema.domain.workspaces import scratch_name

INSIDE = "/workspace"
"""Where commands see the workspace; models then speak of it so."""


class WorkspaceReadOnly(Forbidden):
    """The sandbox's settings let nobody change files."""

    code = "workspace_read_only"

    def __init__(self) -> None:
        super().__init__("The workspace is read-only (workspace_mode is ro): nothing was changed")


class SandboxRules(Protocol):
    """The sandbox's settings in force."""

    async def get(self) -> SandboxConfig:
        """Return them, read at most a second ago."""
        ...


class Places:
    """Finds workspaces.

    The project's where the conversation has one, a task's own branch of it where it is a task's,
    else one of the conversation's own.
    """

    def __init__(self, workspaces: Workspaces, rules: SandboxRules) -> None:
        self._workspaces = workspaces
        self.rules = rules

    async def at(self, place: ToolPlace) -> Workspace:
        """Return it. Raises `NotFound`, `Conflict` before a project's files are there."""
        if place.project_id is not None and place.task_id is not None:
            _, workspace = await self._workspaces.of_task(place.project_id, place.task_id)
            return workspace
        if place.project_id is not None:
            _, workspace = await self._workspaces.open(place.project_id)
            return workspace
        return await self._workspaces.scratch(scratch_name(place.conversation_id))

    async def writable(self, place: ToolPlace) -> Workspace:
        """Return it for changes. Raises `WorkspaceReadOnly` as well."""
        config = await self.rules.get()
        if config.workspace_mode is WorkspaceMode.READ_ONLY:
            raise WorkspaceReadOnly
        return await self.at(place)


def relative(path: str) -> str:
    """Return a path of the workspace as seen from its root: models also write it absolute."""
    if path == INSIDE or path.startswith(f"{INSIDE}/"):
        return path[len(INSIDE) :].lstrip("/")
    return path
