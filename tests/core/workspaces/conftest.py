"""Projects with real repositories, and tasks that work on them with the real tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import JsonValue
from sqlalchemy import insert

from conclave.adapters.git.branches import BranchedRepository
from conclave.adapters.git.program import GitProgram
from conclave.adapters.git.remotes import GuardedRemotes
from conclave.adapters.git.repository import GitRepository
from conclave.adapters.net.web import GuardedWeb
from conclave.adapters.sandbox.host import HostSandbox
from conclave.adapters.workspace.store import DirectoryStore
from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.errands import Errands
from conclave.events import EventLog
from conclave.mailbox import Mailbox
from conclave.tools.builtin.assembly import default_toolbox
from conclave.tools.toolbox import ToolRegistry
from conclave.workspaces.dispatch import ProjectDispatch
from conclave.workspaces.scratch import ScratchRemoval
from conclave.workspaces.service import ProjectService, WorkspaceService
from conclave.workspaces.worktrees import WorktreeRemoval
from schema.domain.tools import ToolOutcome, ToolPlace
from schema.tables.projects import ProjectRow
from tests.core.tools.conftest import Outbox, Progress, Rules, Vault
from tests.fakes.engine import FakeEngine
from tests.fakes.git_server import LoopbackGuard, Origin, git
from tests.harness.task_rows import PlacedTask, a_task


@dataclass
class Forge:
    """What a test of tasks' workspaces works with."""

    db: Database
    root: Path
    store: DirectoryStore
    workspaces: WorkspaceService
    toolbox: ToolRegistry
    worktrees: WorktreeRemoval
    scratch: ScratchRemoval

    async def project(self, files: dict[str, str] | None = None, url: str | None = None) -> int:
        """Make a project that is checked out on `trunk`, with one commit of those files."""
        async with self.db.transaction() as tx:
            added = await tx.conn.execute(
                insert(ProjectRow)
                .values(name="Shop", default_branch="trunk", checkout_status="ready")
                .returning(ProjectRow.id)
            )
            project_id = added.scalar_one()
        staged = await self.store.stage(str(project_id))
        if url is not None:
            await staged.repository.clone(url, branch="trunk", progress=lambda line: None)
        else:
            await staged.repository.init("trunk")
        if files:
            for name, content in files.items():
                await staged.files.write(name, content.encode())
            await staged.repository.stage(list(files))
            await staged.repository.commit("First")
        await self.store.install(staged, str(project_id))
        return project_id

    async def task(self, project_id: int) -> PlacedTask:
        return await a_task(self.db, project_id)

    async def use(self, place: ToolPlace, name: str, **arguments: JsonValue) -> ToolOutcome:
        tool = self.toolbox.get(name)
        assert tool is not None
        return await self.toolbox.run(tool, arguments, place)

    async def said(self, task: PlacedTask, name: str, **arguments: JsonValue) -> str:
        outcome = await self.use(task.place, name, **arguments)
        assert not outcome.is_error, outcome.content
        return outcome.content

    async def change(self, task: PlacedTask, path: str, content: str) -> None:
        """Write a file and commit it."""
        await self.said(task, "write_file", path=path, content=content)
        await self.said(task, "git_add", paths=[path])
        await self.said(task, "git_commit", message=f"Change {path}")

    def git(self, project_id: int, *arguments: str) -> str:
        """Ask plain git of a project's repository."""
        return git(self.root, f"--git-dir={self.root}/{project_id}/git", *arguments)

    def tree(self, name: object) -> Path:
        return self.root / str(name) / "tree"

    def left(self) -> list[str]:
        """What lies in the place of workspaces besides locks and what was deleted."""
        hidden = {".deleted", ".locks"}
        return sorted(path.name for path in self.root.iterdir() if path.name not in hidden)


class Silent:
    """A bus that nobody listens to."""

    def poke(self) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def sandbox() -> HostSandbox:
    return HostSandbox()


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "remote", branch="trunk")
    origin.commit({"a.txt": "one\n"}, "First")
    return origin


@pytest.fixture
def forge(clean_database: Database, tmp_path: Path, sandbox: HostSandbox) -> Forge:
    db, root = clean_database, tmp_path / "workspaces"
    protocols = ("file", "https")
    guard = LoopbackGuard()
    git, remotes = GitProgram(protocols), GuardedRemotes(guard, protocols)
    store = DirectoryStore(
        root,
        lambda home: GitRepository(home, git, remotes),
        lambda home, source, branch: BranchedRepository(home, source, branch, git, remotes),
    )
    dispatch = ProjectDispatch(db, Mailbox(), Errands(), FakeEngine())
    events = EventLog(Silent())  # pyright: ignore[reportArgumentType]  # poked alone
    projects = ProjectService(db, events, AuditLog(), dispatch, remotes)
    workspaces = WorkspaceService(projects, store)
    toolbox = default_toolbox(
        workspaces=workspaces,
        sandbox=sandbox,
        rules=Rules(),
        web=GuardedWeb(guard),
        references=Vault(),
        secret_hosts={},
        outputs=Outbox(),
        progress=Progress(),
    )
    return Forge(
        db,
        root,
        store,
        workspaces,
        toolbox,
        WorktreeRemoval(db, store),
        ScratchRemoval(db, store),
    )
