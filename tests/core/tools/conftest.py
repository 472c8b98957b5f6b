"""The built-in tools over real directories, repositories and sandboxes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import JsonValue

from conclave.adapters.git.program import GitProgram
from conclave.adapters.git.remotes import GuardedRemotes
from conclave.adapters.git.repository import GitRepository
from conclave.adapters.net.web import GuardedWeb
from conclave.adapters.sandbox.host import HostSandbox
from conclave.adapters.workspace.store import DirectoryStore
from conclave.db import Transaction
from conclave.errors import NotFound, SecretNotUsable
from conclave.ports.files import OutputFiles
from conclave.ports.workspaces import Workspace
from conclave.tools.arguments import check
from conclave.tools.builtin.assembly import default_toolbox
from conclave.tools.toolbox import ToolRegistry
from schema.domain.files import StoredFile
from schema.domain.projects import Project
from schema.domain.sandbox import SandboxConfig
from schema.domain.secrets import referenced_name
from schema.domain.tools import ToolOutcome, ToolPlace
from tests.fakes.git_server import HOST, LoopbackGuard

SECRET = "tok-5e1f0c2b9a7d4433"
PROTOCOLS = ("file", "http", "https")


@dataclass
class Rules:
    """Settings that a test sets."""

    config: SandboxConfig = field(default_factory=SandboxConfig)

    async def get(self) -> SandboxConfig:
        return self.config


class Scratch:
    """Opens scratch workspaces; there is no project."""

    def __init__(self, store: DirectoryStore) -> None:
        self.store = store

    async def open(self, project_id: int) -> tuple[Project, Workspace]:
        raise NotFound(f"Project {project_id} not found")

    async def of_task(self, project_id: int, task_id: int) -> tuple[Project, Workspace]:
        raise NotFound(f"Project {project_id} not found")

    async def scratch(self, name: str) -> Workspace:
        return await self.store.make(name)


class Vault:
    """Knows one secret."""

    async def resolve(self, text: str, *, tx: Transaction | None = None) -> str:
        if referenced_name(text) != "api":
            raise SecretNotUsable(f"{text} names no secret")
        return SECRET

    async def require(self, tx: Transaction, text: str, *, field: str) -> None:
        raise NotImplementedError


class Outbox:
    """Takes nothing: what hands files in has tests of its own, with a store."""

    async def publish(
        self,
        place: ToolPlace,
        path: str,
        pieces: AsyncIterable[bytes],
        *,
        filename: str | None = None,
        description: str | None = None,
    ) -> StoredFile:
        raise NotImplementedError


@dataclass
class Bench:
    """What a test works with: conversation 7's workspace and all tools."""

    directory: Path
    rules: Rules
    toolbox: ToolRegistry
    workspaces: Scratch
    place: ToolPlace = field(default_factory=lambda: ToolPlace(conversation_id=7, agent_id=1))

    @property
    def home(self) -> Path:
        return self.directory / "workspaces" / "chat-7"

    @property
    def tree(self) -> Path:
        return self.home / "tree"

    async def workspace(self) -> Workspace:
        return await self.workspaces.scratch("chat-7")

    async def use(self, name: str, **arguments: JsonValue) -> ToolOutcome:
        """Call a tool as the ledger does: with arguments that fit its schema."""
        tool = self.toolbox.get(name)
        assert tool is not None, name
        check(tool, arguments)
        return await self.toolbox.run(tool, arguments, self.place)

    async def said(self, name: str, **arguments: JsonValue) -> str:
        """Call a tool that is to succeed."""
        outcome = await self.use(name, **arguments)
        assert not outcome.is_error, outcome.content
        return outcome.content

    async def refused(self, name: str, **arguments: JsonValue) -> str:
        """Call a tool that is to answer with an error."""
        outcome = await self.use(name, **arguments)
        assert outcome.is_error, outcome.content
        return outcome.content

    def write(self, name: str, content: str) -> Path:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
        return path

    def read(self, name: str) -> str:
        return (self.tree / name).read_bytes().decode()


@pytest.fixture(scope="session")
def sandbox() -> HostSandbox:
    return HostSandbox()


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where an id-mapped mount works or not, as it happens: not below pytest's closed directory."""
    path = Path(tempfile.mkdtemp(prefix="conclave-tools-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Progress:
    """Takes what is reported of tasks."""

    async def report(self, conversation_id: int, percent: int) -> bool:
        return conversation_id > 0


def bench_at(directory: Path, sandbox: HostSandbox, outputs: OutputFiles | None = None) -> Bench:
    guard = LoopbackGuard()
    program, remotes = GitProgram(PROTOCOLS), GuardedRemotes(guard, PROTOCOLS)
    store = DirectoryStore(
        directory / "workspaces", lambda home: GitRepository(home, program, remotes)
    )
    workspaces, rules = Scratch(store), Rules()
    toolbox = default_toolbox(
        workspaces=workspaces,
        sandbox=sandbox,
        rules=rules,
        web=GuardedWeb(guard, limit=100_000),
        references=Vault(),
        secret_hosts={"api": frozenset({HOST})},
        progress=Progress(),
        outputs=outputs or Outbox(),
    )
    bench = Bench(directory, rules, toolbox, workspaces)
    bench.tree.mkdir(parents=True)
    return bench


@pytest.fixture
def bench(directory: Path, sandbox: HostSandbox) -> Bench:
    return bench_at(directory, sandbox)
