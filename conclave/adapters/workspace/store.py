"""Where workspaces lie: `<data>/workspaces/<name>/`, which holds

`tree`, the files, all that tools and sandboxes ever see; `git`, the repository, so that nothing
that writes files can plant a hook or a setting; `deleted` and the locks of writers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from conclave.adapters.workspace import removal
from conclave.adapters.workspace.descriptors import DIRECTORY
from conclave.adapters.workspace.errors import WorkspaceBusy
from conclave.adapters.workspace.files import DirectoryFiles
from conclave.adapters.workspace.locks import TreeLock, acquire
from conclave.adapters.workspace.tree import Tree
from conclave.ports.workspaces import Branched, Repository, Workspace

RepositoryAt = Callable[[Path], Repository]
"""Makes the repository of the workspace that lies in a directory."""
BranchAt = Callable[[Path, Path, str], Branched]
"""Makes one that is a branch: of its own directory, the other one's, and the branch."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_STAGED = ".making-"
_GRAVE = ".deleted"
_LOCKS = ".locks"
_LOCK_FILES = 64
_MAKING_SECONDS = 120.0
"""How long somebody else's making of a workspace is waited for."""


@dataclass(frozen=True)
class DirectoryWorkspace:
    """A `Workspace` in `home`."""

    home: Path
    path: Path
    files: DirectoryFiles
    repository: Repository

    @asynccontextmanager
    async def moving(self) -> AsyncGenerator[None]:
        """Hold git off the files while commands may change them."""
        async with TreeLock(self.home).moving():
            yield


class DirectoryStore:
    """A `WorkspaceStore` below one directory."""

    def __init__(
        self, root: Path, repository_at: RepositoryAt, branch_at: BranchAt | None = None
    ) -> None:
        self._root = root
        self._repository_at = repository_at
        self._branch_at = branch_at

    def workspace(self, name: str) -> DirectoryWorkspace:
        """Return a workspace, there or not."""
        return self._at(self._home(name))

    async def names(self) -> list[str]:
        """Return the names of the workspaces that are there."""
        return await asyncio.to_thread(self._names)

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._root) if _NAME.fullmatch(name))
        except FileNotFoundError:
            return []

    async def make(self, name: str) -> DirectoryWorkspace:
        """Return a workspace, making an empty one where it is not there."""
        workspace = self.workspace(name)
        await asyncio.to_thread(_make, workspace.path)
        return workspace

    async def branch(
        self, name: str, *, of: str, branch: str, base: str | None
    ) -> DirectoryWorkspace:
        """Return a workspace on a branch of another's repository, making it out of sight."""
        home = self._home(name)
        repository = self._branched(home, of, branch)
        if await asyncio.to_thread(home.exists):
            await repository.catch_up()
            return self._at(home, repository)
        async with self._making(name):
            if not await asyncio.to_thread(home.exists):
                staged = await self.stage(name)
                try:
                    await self._branched(staged.home, of, branch).grow(base)
                    await self.install(staged, name)
                except BaseException:
                    await self.discard(staged)
                    raise
        return self._at(home, repository)

    async def show(self, name: str, *, of: str, branch: str) -> None:
        """Show what was committed in it; nothing where it is not there."""
        home = self._home(name)
        if await asyncio.to_thread(home.exists):
            await self._branched(home, of, branch).show()

    def _branched(self, home: Path, of: str, branch: str) -> Branched:
        if self._branch_at is None:
            raise ValueError("this store makes no branches")
        return self._branch_at(home, self._home(of), branch)

    @asynccontextmanager
    async def _making(self, name: str) -> AsyncGenerator[None]:
        """Let one process at a time make or remove the workspace of a name.

        Names share a few lock files, which are never removed: that could not be done safely.
        """
        directory = self._root / _LOCKS
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = directory / f"{zlib.crc32(name.encode()) % _LOCK_FILES:02d}"
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                await acquire(descriptor, fcntl.LOCK_EX, seconds=_MAKING_SECONDS)
            except TimeoutError:
                raise WorkspaceBusy("The workspace is being made. Try again later") from None
            yield
        finally:
            os.close(descriptor)

    async def stage(self, name: str) -> DirectoryWorkspace:
        """Return an empty place of its own for this attempt; what others left is removed."""
        await asyncio.to_thread(self._discard_staged, name)
        self._home(name)
        staged = self._root / f"{_STAGED}{name}.{secrets.token_hex(4)}"
        workspace = self._at(staged)
        await asyncio.to_thread(_make, workspace.path)
        return workspace

    async def install(self, staged: Workspace, name: str) -> None:
        """Rename into place; what lies there, which nobody may be using, is removed first."""
        home = self._home(name)
        await asyncio.to_thread(self._bury, name)
        await asyncio.to_thread(staged.path.parent.rename, home)

    async def discard(self, staged: Workspace) -> None:
        """Remove what was made and is not wanted."""
        await asyncio.to_thread(self._bury, staged.path.parent.name)

    async def remove(self, name: str) -> None:
        """Remove a workspace and what was being made for it."""
        self._home(name)
        async with self._making(name):
            await asyncio.to_thread(self._discard_staged, name)
            await asyncio.to_thread(self._bury, name)

    def _home(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a workspace")
        return self._root / name

    def _at(self, home: Path, repository: Repository | None = None) -> DirectoryWorkspace:
        tree = home / "tree"
        return DirectoryWorkspace(
            home=home,
            path=tree,
            files=DirectoryFiles(Tree(tree, home)),
            repository=repository or self._repository_at(home),
        )

    def _discard_staged(self, name: str) -> None:
        for left in self._root.glob(f"{_STAGED}{name}.*"):
            self._bury(left.name)

    def _bury(self, name: str) -> None:
        grave = self._root / _GRAVE
        try:
            root = os.open(self._root, DIRECTORY)
        except FileNotFoundError:
            return
        try:
            with suppress(FileNotFoundError):
                removal.bury(root, name, grave)
        finally:
            os.close(root)
        removal.empty(grave)


def _make(tree: Path) -> None:
    """The directories above the tree are the product's own: nobody else looks into them."""
    tree.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tree.mkdir(mode=0o755, exist_ok=True)
