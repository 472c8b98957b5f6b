"""Tools on the workspace's repository, which lies where no command reaches it."""

from __future__ import annotations

from pydantic import Field

from conclave.errors import Conflict
from conclave.ports.workspaces import Repository
from conclave.tools.builtin.definition import Answer, Arguments, define
from conclave.tools.builtin.excerpts import start_of
from conclave.tools.builtin.places import Places, relative
from conclave.tools.toolbox import BuiltTool
from schema.domain.repositories import Pushed, RepositoryStatus
from schema.domain.tools import Effect, ToolCategory, ToolPlace

_SECONDS = 120
_REMOTE_SECONDS = 400
_MOST_PATHS = 200
_BRANCH = Field(description="The branch's name.", min_length=1, max_length=200, examples=["work"])
_MAYBE_BRANCH = Field(
    default=None, max_length=200, description="The branch; none: the one that is checked out."
)
_REMOTE = Field(default="origin", min_length=1, max_length=100, description="The remote's name.")


class NoArguments(Arguments):
    """Of `git_status` and `git_branch`."""


class GitInit(Arguments):
    """Of `git_init`."""

    branch: str = Field(default="main", min_length=1, max_length=200, description="Its branch.")


class GitDiff(Arguments):
    """Of `git_diff`."""

    path: str = Field(default="", max_length=4096, description="Only this file or directory.")
    staged: bool = Field(default=False, description="What is staged, against the last commit.")


class GitLog(Arguments):
    """Of `git_log`."""

    limit: int = Field(default=20, ge=1, le=200, description="How many commits at most.")
    branch: str | None = _MAYBE_BRANCH


class GitAdd(Arguments):
    """Of `git_add`."""

    paths: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="Files and directories, deleted ones too; empty: all that has changed.",
    )


class GitCommit(Arguments):
    """Of `git_commit`."""

    message: str = Field(
        description="A line that says what the commit does; more after a blank line.",
        min_length=1,
        max_length=20_000,
        examples=["Add notes"],
    )


class GitCheckout(Arguments):
    """Of `git_checkout`."""

    branch: str = _BRANCH
    create: bool = Field(default=False, description="Make the branch, where HEAD is.")


class GitExchange(Arguments):
    """Of `git_push` and `git_pull`."""

    remote: str = _REMOTE
    branch: str | None = _MAYBE_BRANCH


class GitTools:
    """The tools of category git."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def tools(self) -> list[BuiltTool]:
        """Return them."""
        return [*self._reading(), *self._changing(), *self._exchanging()]

    def _reading(self) -> list[BuiltTool]:
        git, read = ToolCategory.GIT, Effect.READ
        return [
            define(
                "git_status",
                "Show the branch and which files are changed, staged or new.",
                self.status,
                NoArguments,
                effect=read,
                category=git,
                timeout_seconds=_SECONDS,
                is_reading=True,
            ),
            define(
                "git_diff",
                "Show what has changed in the files, as a unified diff.",
                self.diff,
                GitDiff,
                effect=read,
                category=git,
                timeout_seconds=_SECONDS,
                is_reading=True,
            ),
            define(
                "git_log",
                "List commits, the newest first.",
                self.log,
                GitLog,
                effect=read,
                category=git,
                timeout_seconds=_SECONDS,
                is_reading=True,
            ),
            define(
                "git_branch",
                "List branches; * marks the one that is checked out.",
                self.branches,
                NoArguments,
                effect=read,
                category=git,
                timeout_seconds=_SECONDS,
                is_reading=True,
            ),
        ]

    def _changing(self) -> list[BuiltTool]:
        git, same = ToolCategory.GIT, Effect.IDEMPOTENT
        return [
            define(
                "git_init",
                "Make a repository for the workspace, where there is none yet.",
                self.init,
                GitInit,
                effect=same,
                category=git,
                timeout_seconds=_SECONDS,
            ),
            define(
                "git_add",
                "Stage files for the next commit.",
                self.add,
                GitAdd,
                effect=same,
                category=git,
                timeout_seconds=_SECONDS,
            ),
            define(
                "git_commit",
                "Commit what is staged.",
                self.commit,
                GitCommit,
                effect=Effect.ONCE,
                category=git,
                timeout_seconds=_SECONDS,
            ),
            define(
                "git_checkout",
                "Switch to a branch, or make one.",
                self.checkout,
                GitCheckout,
                effect=same,
                category=git,
                timeout_seconds=_SECONDS,
            ),
        ]

    def _exchanging(self) -> list[BuiltTool]:
        git, once = ToolCategory.GIT, Effect.ONCE
        return [
            define(
                "git_push",
                "Send commits of a branch to a remote.",
                self.push,
                GitExchange,
                effect=once,
                category=git,
                timeout_seconds=_REMOTE_SECONDS,
                is_dangerous=True,
            ),
            define(
                "git_pull",
                "Fetch a branch from a remote and merge it; nothing changes where it conflicts.",
                self.pull,
                GitExchange,
                effect=once,
                category=git,
                timeout_seconds=_REMOTE_SECONDS,
            ),
        ]

    async def status(self, asked: NoArguments, place: ToolPlace) -> Answer:
        """Return the state of work tree and index."""
        return _told(await (await self._repository(place)).status())

    async def diff(self, asked: GitDiff, place: ToolPlace) -> Answer:
        """Return a unified diff."""
        repository = await self._repository(place)
        found = await repository.diff(relative(asked.path) or None, staged=asked.staged)
        if not found.text:
            return "[No changes. New files show once they are staged.]"
        return start_of(found.text, "Ask for one path at a time.")

    async def log(self, asked: GitLog, place: ToolPlace) -> Answer:
        """Return commits."""
        commits = await (await self._repository(place)).commits(asked.limit, asked.branch)
        if not commits:
            return "[No commits yet.]"
        lines = [
            f"{one.short_hash} {one.date:%Y-%m-%d %H:%M} {one.author}: "
            f"{one.message.partition(chr(10))[0][:200]}"
            for one in commits
        ]
        return start_of("\n".join(lines), "Ask for fewer commits.")

    async def branches(self, asked: NoArguments, place: ToolPlace) -> Answer:
        """Return local and remote branches."""
        found = await (await self._repository(place)).branches()
        lines = [
            f"{'*' if one.is_current else ' '} {'remotes/' if one.is_remote else ''}{one.name}"
            for one in found[:_MOST_PATHS]
        ]
        if len(found) > _MOST_PATHS:
            lines.append(f"[{len(found) - _MOST_PATHS} more are not shown.]")
        return "\n".join(lines) or "[No branches yet: there is no commit.]"

    async def init(self, asked: GitInit, place: ToolPlace) -> Answer:
        """Make a repository around the files that are there."""
        repository = (await self._places.at(place)).repository
        if await repository.exists():
            return "There is a repository already."
        await repository.init(asked.branch)
        return f"Made an empty repository on branch {asked.branch}."

    async def add(self, asked: GitAdd, place: ToolPlace) -> Answer:
        """Stage files."""
        repository = await self._repository(place)
        paths = [relative(path) for path in asked.paths]
        if not paths or any(path in {"", ".", "./"} for path in paths):
            paths = _changed(await repository.status())
        if not paths:
            return "Nothing has changed: nothing to stage."
        await repository.stage(paths)
        return _told(await repository.status())

    async def commit(self, asked: GitCommit, place: ToolPlace) -> Answer:
        """Commit what is staged."""
        made = await (await self._repository(place)).commit(asked.message)
        return f"Committed {made.short_hash}: {made.message.partition(chr(10))[0]}"

    async def checkout(self, asked: GitCheckout, place: ToolPlace) -> Answer:
        """Switch to a branch; being on it is success."""
        repository = (await self._places.writable(place)).repository
        try:
            await repository.checkout(asked.branch, create=asked.create)
        except Conflict:
            if not asked.create or not await _is_on(repository, asked.branch):
                raise
            return f"On branch {asked.branch} already."
        return f"On branch {asked.branch}."

    async def push(self, asked: GitExchange, place: ToolPlace) -> Answer:
        """Send a branch."""
        repository = await self._repository(place)
        return _exchanged("Pushed", "to", await repository.push(asked.remote, asked.branch))

    async def pull(self, asked: GitExchange, place: ToolPlace) -> Answer:
        """Fetch and merge a branch."""
        repository = (await self._places.writable(place)).repository
        return _exchanged("Pulled", "from", await repository.pull(asked.remote, asked.branch))

    async def _repository(self, place: ToolPlace) -> Repository:
        return (await self._places.at(place)).repository


async def _is_on(repository: Repository, branch: str) -> bool:
    status = await repository.status()
    return status.branch == branch


def _exchanged(what: str, way: str, done: Pushed) -> str:
    commits = "1 commit" if done.count == 1 else f"{done.count} commits"
    return f"{what} {commits} {way} {done.remote}/{done.branch}."


def _changed(status: RepositoryStatus) -> list[str]:
    return [*status.modified, *status.deleted, *status.untracked]


def _told(status: RepositoryStatus) -> str:
    lines = [f"On branch {status.branch or '(none: HEAD is detached)'}"]
    if status.head is None:
        lines.append("No commits yet")
    if status.ahead or status.behind:
        lines.append(f"{status.ahead} ahead of its remote, {status.behind} behind")
    renamed = [f"{one.before} -> {one.after}" for one in status.renamed]
    kinds = {
        "staged": status.staged,
        "renamed": renamed,
        "modified, not staged": status.modified,
        "deleted, not staged": status.deleted,
        "new, not staged": status.untracked,
        "in conflict": status.conflicted,
    }
    for kind, paths in kinds.items():
        if paths:
            more = len(paths) - _MOST_PATHS
            lines.append(f"{kind}:")
            lines += [f"  {path}" for path in paths[:_MOST_PATHS]]
            if more > 0:
                lines.append(f"  [{more} more]")
    if not any(kinds.values()):
        lines.append("Nothing has changed")
    return "\n".join(lines)
