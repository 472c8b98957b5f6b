"""Files and repositories of projects and chats."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from schema.domain.projects import Project
from schema.domain.repositories import Branch, Commit, CommitAuthor, Diff, Pushed, RepositoryStatus
from schema.domain.workspaces import Entry, FileContent, Listing, WrittenFile

ProgressSink = Callable[[str], None]
"""Takes a line of git's progress (`Receiving objects:  42% (5/12)`). Returns at once."""


class FileTree(Protocol):
    """The files of a workspace. Paths are relative to its root and never follow a link.

    Every operation raises a 400 (`path_refused`) for a path that leaves the tree, crosses a link
    or reaches into `.git`, before anything is touched; a 404 where nothing is there.
    """

    async def read(self, path: str) -> FileContent:
        """Return a file. Raises `TooLarge` beyond 5 MiB, `Conflict` for a directory."""
        ...

    def pieces(self, path: str) -> AsyncIterator[bytes]:
        """Return a file's bytes piece by piece, however large it is. Raises as `read` does."""
        ...

    async def write(
        self, path: str, data: bytes, *, expected_sha256: str | None = None
    ) -> WrittenFile:
        """Replace or make a file in one step, with the directories above it.

        Raises `TooLarge`, and `Conflict` where a directory is in the way or the content is no
        longer the expected one.
        """
        ...

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file or a directory. Raises `Conflict` for a full one unless `recursive`."""
        ...

    async def rename(self, source: str, target: str) -> Entry:
        """Move a file or directory, making directories. Raises `Conflict` for a taken target."""
        ...

    async def stat(self, path: str) -> Entry:
        """Return what stands under a path."""
        ...

    async def list(
        self, path: str = "", *, recursive: bool = False, limit: int = 10_000
    ) -> Listing:
        """Return what a directory holds, ordered by path; recursively for a search."""
        ...


class Repository(Protocol):
    """The git repository of a workspace. One operation that writes runs at a time.

    Every operation raises `Conflict` (`not_a_repository`) where there is none, and `Unavailable`
    where git is missing or another operation takes too long. What concerns a remote raises
    `Unavailable` (`remote_unreachable`) where another try may help, `Conflict`
    (`remote_refused`) with git's reason where it does not, `UrlRefused` for a bad address.
    """

    async def init(self, branch: str) -> None:
        """Make an empty repository, with an empty work tree, on that branch."""
        ...

    async def clone(
        self, url: str, *, branch: str | None, progress: ProgressSink, depth: int | None = None
    ) -> str | None:
        """Fetch a remote as `origin` into a new repository and check a branch out.

        Without `branch` the remote's own. Returns the branch, None where the remote is empty.
        """
        ...

    async def exists(self) -> bool:
        """Whether there is a repository."""
        ...

    async def status(self) -> RepositoryStatus:
        """Compare work tree, index and HEAD."""
        ...

    async def commits(self, limit: int, branch: str | None = None) -> Sequence[Commit]:
        """Return commits, newest first. Raises `NotFound` for an unknown branch."""
        ...

    async def branches(self) -> Sequence[Branch]:
        """Return local branches, then those seen at remotes."""
        ...

    async def stage(self, paths: Sequence[str]) -> None:
        """Take files, as they are now or gone, into the index. Raises `NotFound`."""
        ...

    async def unstage(self, paths: Sequence[str]) -> None:
        """Set files of the index back to HEAD. Raises `NotFound`."""
        ...

    async def commit(self, message: str, author: CommitAuthor | None = None) -> Commit:
        """Commit what is staged. Raises `Conflict` where nothing is."""
        ...

    async def diff(self, path: str | None = None, *, staged: bool = False) -> Diff:
        """Compare the work tree with the index, or the index with HEAD."""
        ...

    async def checkout(self, branch: str, *, create: bool = False) -> None:
        """Switch to a branch. Raises `Conflict` where changes would be lost or it exists."""
        ...

    async def push(self, remote: str = "origin", branch: str | None = None) -> Pushed:
        """Send a branch. Raises `Conflict` with git's reason where it is rejected."""
        ...

    async def pull(self, remote: str = "origin", branch: str | None = None) -> Pushed:
        """Fetch a branch and merge it. Raises `Conflict`; the work tree is as before then."""
        ...


class Branched(Repository, Protocol):
    """A repository made from another one, which shows its work as a branch.

    What is committed here is on a branch of the other one as soon as it can be, and at the latest
    when this one is next opened. Nothing else of the other one can be changed from here.
    """

    async def grow(self, base: str | None) -> None:
        """Make it, with its files: from its branch in the other one, else from `base`."""
        ...

    async def show(self) -> None:
        """Bring the other one to what is committed here. May be repeated.

        Raises `Unavailable` while the other one is busy, `Conflict` where it cannot be.
        """
        ...

    async def catch_up(self) -> None:
        """Do so if something was left; what cannot be shown yet is left once more."""
        ...


class Workspace(Protocol):
    """A place for files, and the repository that records them."""

    @property
    def path(self) -> Path:
        """Where the files lie, for people and for sandboxes; never opened by this path."""
        ...

    @property
    def files(self) -> FileTree:
        """The files."""
        ...

    @property
    def repository(self) -> Repository:
        """The repository, which lies outside the files."""
        ...

    def moving(self) -> AbstractAsyncContextManager[None]:
        """Hold git off the files while a command may change them; several commands may at once.

        Raises `Unavailable` where git does not come to an end in half a minute.
        """
        ...


class WorkspaceStore(Protocol):
    """Where workspaces lie. A name is of digits, letters and dashes."""

    def workspace(self, name: str) -> Workspace:
        """Return a workspace, there or not."""
        ...

    async def names(self) -> list[str]:
        """Return the names of the workspaces that are there."""
        ...

    async def make(self, name: str) -> Workspace:
        """Return a workspace, making an empty one without a repository where it is not there."""
        ...

    async def branch(self, name: str, *, of: str, branch: str, base: str | None) -> Workspace:
        """Return a workspace whose repository is a branch of that of another, making it at first.

        It is whole or not there, whoever asks for it at once or dies meanwhile. Raises what git
        and the disk raise, `Unavailable` where somebody else takes too long to make it.
        """
        ...

    async def show(self, name: str, *, of: str, branch: str) -> None:
        """Show in the other one what was committed in such a workspace. Raises as `Branched`."""
        ...

    async def stage(self, name: str) -> Workspace:
        """Return an empty place where a workspace can be made, out of sight; others' are gone."""
        ...

    async def install(self, staged: Workspace, name: str) -> None:
        """Put what was made in its place in one step; what lies there is removed.

        The caller sees to it that nobody else installs or uses that workspace meanwhile.
        """
        ...

    async def discard(self, staged: Workspace) -> None:
        """Remove what was made and is not wanted."""
        ...

    async def remove(self, name: str) -> None:
        """Remove a workspace and all that was being made for it. May be repeated."""
        ...


class Workspaces(Protocol):
    """Opens the workspaces of projects, and of chats that have none."""

    async def open(self, project_id: int) -> tuple[Project, Workspace]:
        """Return a project and its files. Raises `NotFound`; `Conflict` before they are there."""
        ...

    async def of_task(self, project_id: int, task_id: int) -> tuple[Project, Workspace]:
        """Return a project and the files of one task of it, on a branch of their own."""
        ...

    async def scratch(self, name: str) -> Workspace:
        """Return the files that belong to `name`, making an empty place at first."""
        ...
