"""One repository and the runs of git on it: its settings are checked, its writers take turns."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from conclave.adapters.git.environment import ConfigPairs
from conclave.adapters.git.errors import GitBusy, NoSuchRef, NotARepository
from conclave.adapters.git.failures import unexpected
from conclave.adapters.git.program import OUTPUT_BYTES, Call, GitProgram, Output
from conclave.adapters.workspace.locks import TreeLock, acquire
from conclave.errors import ConclaveError
from conclave.ports.workspaces import ProgressSink

_ALLOWED = re.compile(
    r"core\.(?:repositoryformatversion|filemode|bare|logallrefupdates|ignorecase"
    r"|precomposeunicode|symlinks)"
    r"|remote\.[^\x00\n]+\.(?:url|fetch)"
    r"|branch\.[^\x00\n]+\.(?:remote|merge)"
)
"""All that a repository of ours says. Anything else could name a program, a proxy or a file."""
_STALE = ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock")

Failure = Callable[[Output, Call], ConclaveError]


@dataclass(frozen=True)
class _Seen:
    """Which state of the settings file was found good."""

    signature: tuple[int, int, int]


class Session:
    """Runs git on `<home>/git` and `<home>/tree`."""

    def __init__(self, home: Path, program: GitProgram) -> None:
        self.git_dir = home / "git"
        self.tree = home / "tree"
        self.files = TreeLock(home)
        """Held still by whatever opens files of the work tree."""
        self._lock = home / "git.lock"
        self._program = program
        self._seen: _Seen | None = None

    async def ask(
        self,
        *arguments: str,
        codes: Sequence[int] = (0,),
        failure: Failure = unexpected,
        config: ConfigPairs = (),
        input: bytes | None = None,
        environment: dict[str, str] | None = None,
        progress: ProgressSink | None = None,
        timeout: float = 60.0,
        held: Sequence[int] = (),
        most: int = OUTPUT_BYTES,
    ) -> Output:
        """Run git; an exit status that is not among `codes` is raised as `failure` reads it."""
        call = Call(
            arguments=arguments,
            git_dir=self.git_dir,
            tree=self.tree,
            timeout=timeout,
            input=input,
            config=config,
            environment=environment or {},
            progress=progress,
            held=held,
            most=most,
        )
        output = await self._program.run(call)
        if output.code not in codes:
            raise failure(output, call)
        return output

    async def ready(self) -> None:
        """Raise `NotARepository` unless there is one whose settings are all ours."""
        try:
            found = await asyncio.to_thread(os.stat, self.git_dir / "config")
        except (FileNotFoundError, NotADirectoryError):
            raise NotARepository("The workspace is not a git repository") from None
        signature = (found.st_mtime_ns, found.st_size, found.st_ino)
        if self._seen == _Seen(signature):
            return
        file = str(self.git_dir / "config")
        listed = await self.ask("config", "--file", file, "--no-includes", "--list", "-z")
        for entry in listed.out.split(b"\x00"):
            key = entry.partition(b"\n")[0].decode("utf-8", "replace")
            if key and not _ALLOWED.fullmatch(key):
                raise NotARepository(f"The repository has a setting that is not allowed: {key}")
        self._seen = _Seen(signature)

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[Writer]:
        """Let one writer of any process of ours work at a time.

        The lock is inherited by git, so that a git that outlives us still holds it. Whoever has
        it knows that lock files lying about are nobody's, and takes them away.
        """
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                await acquire(descriptor, fcntl.LOCK_EX)
            except TimeoutError:
                raise GitBusy("Another git operation is running in this workspace") from None
            await asyncio.to_thread(self._take_stale_locks)
            yield Writer(self, descriptor)
        finally:
            os.close(descriptor)

    def _take_stale_locks(self) -> None:
        for path in (*(self.git_dir / name for name in _STALE), *_ref_locks(self.git_dir)):
            path.unlink(missing_ok=True)


class Writer:
    """A session while its lock is held."""

    def __init__(self, session: Session, descriptor: int) -> None:
        self.session = session
        self._held = (descriptor,)

    @asynccontextmanager
    async def on_files(self) -> AsyncGenerator[Writer]:
        """Work on the files of the work tree, with no command beside. Raises `WorkspaceBusy`."""
        before = self._held
        async with self.session.files.still() as held:
            self._held = (*before, held)
            try:
                yield self
            finally:
                self._held = before

    async def ask(
        self,
        *arguments: str,
        codes: Sequence[int] = (0,),
        failure: Failure = unexpected,
        config: ConfigPairs = (),
        input: bytes | None = None,
        environment: dict[str, str] | None = None,
        progress: ProgressSink | None = None,
        timeout: float = 120.0,
    ) -> Output:
        """Run git as `Session.ask` does, holding the lock as long as git lives."""
        return await self.session.ask(
            *arguments,
            codes=codes,
            failure=failure,
            config=config,
            input=input,
            environment=environment,
            progress=progress,
            timeout=timeout,
            held=self._held,
        )


async def current_branch(session: Session) -> str | None:
    """Return the branch that HEAD names, born or not; None where it is detached."""
    said = await session.ask("symbolic-ref", "--quiet", "--short", "HEAD", codes=(0, 1))
    return said.text or None


async def resolve(session: Session, ref: str) -> str | None:
    """Return the commit that a full name of a ref, or HEAD, stands for."""
    name = f"{ref}^{{commit}}"
    said = await session.ask(
        "rev-parse", "--verify", "--quiet", "--end-of-options", name, codes=(0, 1)
    )
    return said.text or None


async def must_resolve(session: Session, ref: str, what: str) -> str:
    """Return the commit of a ref. Raises `NoSuchRef` naming `what`."""
    found = await resolve(session, ref)
    if found is None:
        raise NoSuchRef(f"{what} not found")
    return found


def _ref_locks(git_dir: Path) -> list[Path]:
    return list((git_dir / "refs").rglob("*.lock"))
