"""The repository of a workspace, for the core. What it needs of a remote is `exchange`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conclave.adapters.git import exchange
from conclave.adapters.git.errors import GitConflict, NoSuchRef, NothingStaged
from conclave.adapters.git.exchange import COMMITTER
from conclave.adapters.git.failures import local_conflict, reason_of, unexpected
from conclave.adapters.git.names import branch_name, remote_name
from conclave.adapters.git.parsing import (
    BRANCH_FORMAT,
    LOG_FORMAT,
    parse_branches,
    parse_commits,
    parse_numstat,
    parse_status,
)
from conclave.adapters.git.program import Call, GitProgram, Output
from conclave.adapters.git.remotes import GuardedRemotes
from conclave.adapters.git.session import Session, Writer, current_branch, must_resolve, resolve
from conclave.adapters.workspace.errors import PathRefused
from conclave.adapters.workspace.paths import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, parse_entry
from conclave.errors import ConclaveError, Invalid
from conclave.ports.workspaces import ProgressSink
from schema.domain.repositories import (
    Branch,
    Commit,
    CommitAuthor,
    Diff,
    Pushed,
    RepositoryStatus,
)

_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
"""
_EXCLUDED = f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}\n"
_MAX_MESSAGE = 100_000
_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=all")
_PATHS = ("--pathspec-from-file=-", "--pathspec-file-nul")


class GitRepository:
    """A `Repository` in `<home>/git`, whose work tree is `<home>/tree`."""

    def __init__(self, home: Path, program: GitProgram, remotes: GuardedRemotes) -> None:
        self._session = Session(home, program)
        self._remotes = remotes

    async def init(self, branch: str) -> None:
        """Make an empty repository."""
        async with self._session.writing() as writer:
            await self._init(writer, branch_name(branch))

    async def _init(self, writer: Writer, branch: str) -> None:
        git_dir = self._session.git_dir
        await writer.ask("init", "--quiet", "--template=", f"--initial-branch={branch}")
        (git_dir / "config").write_text(_CONFIG)
        (git_dir / "info").mkdir(exist_ok=True)
        (git_dir / "info" / "exclude").write_text(_EXCLUDED)

    async def clone(
        self, url: str, *, branch: str | None, progress: ProgressSink, depth: int | None = None
    ) -> str | None:
        """Fetch a remote into a new repository and check a branch out."""
        if branch is not None:
            branch_name(branch)
        async with self._session.writing() as writer:
            await self._init(writer, branch or "main")
            return await exchange.clone(
                writer, self._remotes, url, branch=branch, progress=progress, depth=depth
            )

    async def exists(self) -> bool:
        """Whether there is a repository."""
        return (self._session.git_dir / "config").exists()

    async def status(self) -> RepositoryStatus:
        """Compare work tree, index and HEAD."""
        await self._session.ready()
        async with self._session.files.still() as held:
            said = await self._session.ask(
                "status",
                "--porcelain=v2",
                "--branch",
                "-z",
                "--untracked-files=all",
                "--ignore-submodules=all",
                held=(held,),
            )
        return parse_status(said.out)

    async def commits(self, limit: int, branch: str | None = None) -> Sequence[Commit]:
        """Return commits, newest first."""
        await self._session.ready()
        start = await self._start(branch)
        if start is None:
            return []
        said = await self._session.ask(
            "log", "-z", f"--format={LOG_FORMAT}", f"--max-count={limit}", start, "--"
        )
        return parse_commits(said.out)

    async def _start(self, branch: str | None) -> str | None:
        """Return the commit a branch, local or seen at a remote, stands for; HEAD's else."""
        if branch is None:
            return await resolve(self._session, "HEAD")
        name = branch_name(branch)
        for place in ("heads", "remotes", "remotes/origin"):
            found = await resolve(self._session, f"refs/{place}/{name}")
            if found is not None:
                return found
        if await current_branch(self._session) == name:
            return None
        raise NoSuchRef(f"Branch {name} not found")

    async def branches(self) -> Sequence[Branch]:
        """Return local branches, then those seen at remotes."""
        await self._session.ready()
        said = await self._session.ask(
            "for-each-ref", f"--format={BRANCH_FORMAT}", "refs/heads/", "refs/remotes/"
        )
        return parse_branches(said.text)

    async def stage(self, paths: Sequence[str]) -> None:
        """Take files, as they are now or gone, into the index."""
        await self._on_paths("add", "--all", paths=paths)

    async def unstage(self, paths: Sequence[str]) -> None:
        """Set files of the index back to HEAD."""
        await self._on_paths("reset", "--quiet", paths=paths)

    async def _on_paths(self, *command: str, paths: Sequence[str]) -> None:
        plain = ["/".join(parse_entry(path)) for path in paths]
        if not plain:
            raise Invalid("files", "names no file")
        await self._session.ready()
        async with self._session.writing() as writer, writer.on_files():
            await writer.ask(
                *command, *_PATHS, input="\x00".join(plain).encode(), failure=_path_failure
            )

    async def commit(self, message: str, author: CommitAuthor | None = None) -> Commit:
        """Commit what is staged."""
        if not message.strip() or len(message) > _MAX_MESSAGE or "\x00" in message:
            raise Invalid("message", f"must have 1 to {_MAX_MESSAGE} characters and no NUL")
        environment = _signed_by(author)
        await self._session.ready()
        async with self._session.writing() as writer, writer.on_files():
            compared = await writer.ask(
                "diff", "--cached", "--quiet", *_DIFF, codes=(0, 1), failure=local_conflict
            )
            if compared.code == 0:
                raise NothingStaged("Nothing is staged")
            await writer.ask(
                "commit",
                "--quiet",
                "--no-verify",
                "--no-gpg-sign",
                "--cleanup=whitespace",
                "--file=-",
                input=message.encode(),
                environment=environment,
                failure=local_conflict,
            )
            made = await writer.ask("log", "-z", f"--format={LOG_FORMAT}", "--max-count=1", "HEAD")
            return parse_commits(made.out)[0]

    async def diff(self, path: str | None = None, *, staged: bool = False) -> Diff:
        """Compare the work tree with the index, or the index with HEAD."""
        only = [] if path is None else ["/".join(parse_entry(path))]
        await self._session.ready()
        against = ["--cached"] if staged else []
        arguments = ("diff", *_DIFF, *against)
        async with self._session.files.still() as held:
            counted = await self._session.ask(
                *arguments, "--numstat", "-z", "--", *only, held=(held,)
            )
            shown = await self._session.ask(*arguments, "--", *only, held=(held,))
        additions, deletions = parse_numstat(counted.out)
        text = shown.out.decode("utf-8", "replace")
        return Diff(text=text, additions=additions, deletions=deletions)

    async def checkout(self, branch: str, *, create: bool = False) -> None:
        """Switch to a branch; a new one starts where HEAD is."""
        name = branch_name(branch)
        await self._session.ready()
        async with self._session.writing() as writer, writer.on_files():
            exists = await resolve(self._session, f"refs/heads/{name}") is not None
            if create:
                if exists:
                    raise GitConflict(f"Branch {name} already exists")
                await writer.ask("checkout", "-q", "-b", name, "--", failure=local_conflict)
            elif exists:
                await writer.ask("checkout", "-q", "--no-guess", name, "--", failure=local_conflict)
            else:
                await must_resolve(self._session, f"refs/remotes/origin/{name}", f"Branch {name}")
                track = ("-b", name, "--track", f"origin/{name}", "--")
                await writer.ask("checkout", "-q", *track, failure=local_conflict)

    async def push(self, remote: str = "origin", branch: str | None = None) -> Pushed:
        """Send a branch."""
        remote_name(remote)
        await self._session.ready()
        async with self._session.writing() as writer:
            return await exchange.push(writer, self._remotes, remote, branch)

    async def pull(self, remote: str = "origin", branch: str | None = None) -> Pushed:
        """Fetch a branch and merge it into the current one."""
        remote_name(remote)
        await self._session.ready()
        async with self._session.writing() as writer:
            return await exchange.pull(writer, self._remotes, remote, branch)


def _signed_by(author: CommitAuthor | None) -> dict[str, str]:
    if author is None:
        return COMMITTER
    for field, value in (("author_name", author.name), ("author_email", author.email)):
        if not value.strip(" .,:;<>\"'\\") or len(value) > 255 or not value.isprintable():
            raise Invalid(field, "is not a name or address that a commit can have")
        if "<" in value or ">" in value:
            raise Invalid(field, "must not hold < or >")
    return COMMITTER | {"GIT_AUTHOR_NAME": author.name, "GIT_AUTHOR_EMAIL": author.email}


def _path_failure(output: Output, call: Call) -> ConclaveError:
    if "did not match any file" in output.err or "unknown revision or path" in output.err:
        return NoSuchRef(reason_of(output, call))
    if "beyond a symbolic link" in output.err or "outside repository" in output.err:
        return PathRefused(reason_of(output, call))
    if "is in submodule" in output.err or "ignored by one of your" in output.err:
        return GitConflict(reason_of(output, call))
    return unexpected(output, call)
