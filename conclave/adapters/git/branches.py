"""A repository for one piece of work: made from another one, whose objects it borrows, with refs,
index and settings of its own, and shown there as a branch (docs/decisions/0017).

What is committed is marked as not shown first and fetched by the other repository afterwards, so
that a kill in between is made good when the place is next opened.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from conclave.adapters.git.failures import local_conflict
from conclave.adapters.git.names import branch_name
from conclave.adapters.git.program import GitProgram
from conclave.adapters.git.remotes import GuardedRemotes
from conclave.adapters.git.repository import GitRepository
from conclave.adapters.git.session import Session, Writer, resolve
from conclave.errors import ConclaveError
from conclave.logging import get_logger
from conclave.ports.workspaces import ProgressSink
from schema.domain.repositories import Commit, CommitAuthor, Pushed

_HEADS = "refs/heads/"
_FILES_SECONDS = 30 * 60.0
_SHOWING_SECONDS = 5 * 60.0
_LOCAL = {"GIT_ALLOW_PROTOCOL": "file"}
"""For one fetch between two directories of ours, neither of which anybody else names."""
_REMOTE = re.compile(r"remote\.[^\n]+\.url")
_log = get_logger(__name__)


class BranchedRepository(GitRepository):
    """A `Branched` repository in `home`, made from the one in `source_home`."""

    def __init__(
        self,
        home: Path,
        source_home: Path,
        branch: str,
        program: GitProgram,
        remotes: GuardedRemotes,
    ) -> None:
        super().__init__(home, program, remotes)
        self._source = Session(source_home, program)
        self._branch = branch_name(branch)
        self._unshown = home / "unshown"

    async def grow(self, base: str | None) -> None:
        """Make it, on its branch: where the source has that branch already, with its commits."""
        await self._source.ready()
        start = await self._start_of(base)
        async with self._session.writing() as writer:
            await self._init(writer, self._branch)
            self._borrow()
            await self._copy_remotes(writer)
            if start is None:
                return
            await writer.ask("update-ref", f"{_HEADS}{self._branch}", start)
            async with writer.on_files():
                await writer.ask(
                    "reset", "--hard", "--quiet", timeout=_FILES_SECONDS, failure=local_conflict
                )

    async def _start_of(self, base: str | None) -> str | None:
        """Return where it begins: its own earlier work, the base branch, what is checked out."""
        named = [self._branch] if base is None else [self._branch, base]
        for name in named:
            found = await resolve(self._source, f"{_HEADS}{name}")
            if found is not None:
                return found
        return await resolve(self._source, "HEAD")

    def _borrow(self) -> None:
        """Read the source's objects: nothing there is ever pruned, and nothing is written there."""
        own, theirs = self._session.git_dir, self._source.git_dir
        info = own / "objects" / "info"
        info.mkdir(exist_ok=True)
        # Relative, so that the data directory may be moved as a whole.
        (info / "alternates").write_text(
            os.path.relpath(theirs / "objects", own / "objects") + "\n"
        )
        if (theirs / "shallow").exists():
            shutil.copyfile(theirs / "shallow", own / "shallow")

    async def _copy_remotes(self, writer: Writer) -> None:
        """Let it push and pull where the source does, and know what was last seen there."""
        said = await self._source.ask("config", "--local", "--no-includes", "--list", "-z")
        for entry in said.text.split("\x00"):
            key, _, value = entry.partition("\n")
            if _REMOTE.fullmatch(key):
                name = key.removeprefix("remote.").removesuffix(".url")
                await writer.ask("remote", "add", "--", name, value)
        seen = await self._source.ask(
            "for-each-ref", "--format=create %(refname) %(objectname)%(symref)", "refs/remotes/"
        )
        # One that stands for another ref is left out: its target is enough.
        plain = [line for line in seen.text.splitlines() if len(line.split(" ")[-1]) in {40, 64}]
        if plain:
            await writer.ask("update-ref", "--stdin", input=("\n".join(plain) + "\n").encode())

    async def commit(self, message: str, author: CommitAuthor | None = None) -> Commit:
        """Commit what is staged, and show it."""
        async with self._showing():
            return await super().commit(message, author)

    async def pull(self, remote: str = "origin", branch: str | None = None) -> Pushed:
        """Fetch a branch and merge it, and show what came of it."""
        async with self._showing():
            return await super().pull(remote, branch)

    async def checkout(self, branch: str, *, create: bool = False) -> None:
        """Switch to a branch, and show a new one."""
        async with self._showing():
            await super().checkout(branch, create=create)

    async def clone(
        self, url: str, *, branch: str | None, progress: ProgressSink, depth: int | None = None
    ) -> str | None:
        """Nothing is cloned into a branch: it is made of its project. Raises AssertionError."""
        raise AssertionError("a task's files are made of its project's, never cloned into")

    @asynccontextmanager
    async def _showing(self) -> AsyncGenerator[None]:
        """Show what the block did, whatever became of it; what cannot be shown is shown later."""
        self._unshown.touch(mode=0o600)
        try:
            yield
        except ConclaveError:
            await self.catch_up()
            raise
        await self.catch_up()

    async def catch_up(self) -> None:
        """Show what a crash, or a source that was busy, left unshown. Costs one look else."""
        if not self._unshown.exists():
            return
        try:
            await self.show()
        except ConclaveError as error:
            _log.warning("a branch is shown later", branch=self._branch, error=error.code)

    async def show(self) -> None:
        """Bring the source's branches of this work to what they are here.

        Other branches than its own are shown as `<its own>-<name>`. Raises `Conflict` where one
        of them is checked out in the source's files, `Unavailable` where that is busy.
        """
        await self._session.ready()
        await self._source.ready()
        async with self._source.writing() as writer:
            ours, theirs = await _heads(self._session), await _heads(self._source)
            specs = [
                f"+{_HEADS}{name}:{_HEADS}{self._shown_as(name)}"
                for name, head in sorted(ours.items())
                if theirs.get(self._shown_as(name)) != head
            ]
            if specs:
                fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--")
                await writer.ask(
                    *fetch,
                    str(self._session.git_dir),
                    *specs,
                    environment=_LOCAL,
                    failure=local_conflict,
                    timeout=_SHOWING_SECONDS,
                )
        self._unshown.unlink(missing_ok=True)

    def _shown_as(self, name: str) -> str:
        return name if name == self._branch else f"{self._branch}-{name}"


async def _heads(session: Session) -> dict[str, str]:
    """Return the commits of local branches by their names."""
    said = await session.ask("for-each-ref", "--format=%(objectname) %(refname)", _HEADS)
    found = [line.partition(" ") for line in said.text.splitlines()]
    return {ref.removeprefix(_HEADS): commit for commit, _, ref in found}
