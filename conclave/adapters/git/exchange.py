"""What goes over the network: cloning, pushing, pulling. Every address is judged before each."""

from __future__ import annotations

from conclave.adapters.git.environment import ConfigPairs
from conclave.adapters.git.errors import GitConflict, NoSuchRef, RemoteRefused
from conclave.adapters.git.failures import local_conflict, reason_of, remote_failure
from conclave.adapters.git.names import branch_name, remote_name
from conclave.adapters.git.program import Call, Output
from conclave.adapters.git.remotes import GuardedRemotes
from conclave.adapters.git.session import (
    Session,
    Writer,
    current_branch,
    must_resolve,
    resolve,
)
from conclave.errors import ConclaveError
from conclave.ports.workspaces import ProgressSink
from schema.domain.repositories import Pushed

CLONE_SECONDS = 30 * 60.0
EXCHANGE_SECONDS = 5 * 60.0
_USUAL = ("main", "master")


async def clone(
    writer: Writer,
    remotes: GuardedRemotes,
    url: str,
    *,
    branch: str | None,
    progress: ProgressSink,
    depth: int | None,
) -> str | None:
    """Fetch `url` as `origin` into a repository just made, and check a branch out."""
    settings = await remotes.settings(url, field="repository_url")
    session = writer.session
    await writer.ask("remote", "add", "--", "origin", url)
    chosen = branch or await _head_of(writer, settings)
    shallow = [] if depth is None else [f"--depth={depth}"]
    await writer.ask(
        "fetch",
        "--progress",
        "--no-recurse-submodules",
        *shallow,
        "--",
        "origin",
        failure=remote_failure,
        config=settings,
        progress=progress,
        timeout=CLONE_SECONDS,
    )
    if chosen is None:
        chosen = await _likely(session)
    if chosen is None:
        return None
    if await resolve(session, f"refs/remotes/origin/{chosen}") is None:
        raise RemoteRefused(f"The remote has no branch {chosen}")
    await writer.ask(
        "checkout", "-q", "-B", chosen, "--track", f"origin/{chosen}", "--", timeout=CLONE_SECONDS
    )
    return chosen


async def _head_of(writer: Writer, settings: ConfigPairs) -> str | None:
    """Ask the remote for its default branch; None where it is empty or does not say."""
    said = await writer.ask(
        "ls-remote",
        "--symref",
        "--",
        "origin",
        "HEAD",
        failure=remote_failure,
        config=settings,
        timeout=EXCHANGE_SECONDS,
    )
    for line in said.text.splitlines():
        ref, _, name = line.removeprefix("ref: ").partition("\t")
        if line.startswith("ref: refs/heads/") and name == "HEAD":
            return branch_name(ref.removeprefix("refs/heads/"))
    return None


async def _likely(session: Session) -> str | None:
    """Return a branch of a remote whose HEAD names none: a usual one, else the first."""
    said = await session.ask("for-each-ref", "--format=%(refname)", "refs/remotes/origin/")
    names = [ref.removeprefix("refs/remotes/origin/") for ref in said.text.splitlines()]
    usual = [name for name in _USUAL if name in names]
    return next(iter([*usual, *names]), None)


async def push(writer: Writer, remotes: GuardedRemotes, remote: str, branch: str | None) -> Pushed:
    """Send a branch under its own name; it follows the remote's from then on."""
    session = writer.session
    name = await _named(session, branch)
    head = await must_resolve(session, f"refs/heads/{name}", f"Branch {name}")
    settings = await _settings_of(session, remotes, remote)
    count = await _count(session, head, f"--not --remotes={remote}".split())
    await writer.ask(
        "push",
        "--porcelain",
        "--no-verify",
        "--set-upstream",
        "--",
        remote,
        f"refs/heads/{name}:refs/heads/{name}",
        failure=_push_failure,
        config=settings,
        timeout=EXCHANGE_SECONDS,
    )
    return Pushed(remote=remote, branch=name, count=count, head=head)


async def pull(writer: Writer, remotes: GuardedRemotes, remote: str, branch: str | None) -> Pushed:
    """Fetch a branch and merge it into the current one.

    Whether the merge conflicts is found out on the side first, so that it never shows in the
    work tree.
    """
    session = writer.session
    name = await _named(session, branch)
    settings = await _settings_of(session, remotes, remote)
    tracking = f"refs/remotes/{remote}/{name}"
    await writer.ask(
        "fetch",
        "--no-recurse-submodules",
        "--",
        remote,
        f"+refs/heads/{name}:{tracking}",
        failure=remote_failure,
        config=settings,
        timeout=EXCHANGE_SECONDS,
    )
    theirs = await must_resolve(session, tracking, f"Branch {name} of {remote}")
    ours = await resolve(session, "HEAD")
    count = await _count(session, theirs, [] if ours is None else [f"^{ours}"])
    if count:
        async with writer.on_files():
            await _merge(writer, ours, theirs, f"Merge branch '{name}' of {remote}")
    return Pushed(remote=remote, branch=name, count=count, head=await resolve(session, "HEAD"))


async def _merge(writer: Writer, ours: str | None, theirs: str, message: str) -> None:
    session = writer.session
    if ours is not None:
        behind = await session.ask("merge-base", "--is-ancestor", ours, theirs, codes=(0, 1))
        if behind.code == 1:
            await _merge_commit(writer, ours, theirs, message)
            return
    await writer.ask("merge", "--quiet", "--ff-only", "--no-verify", theirs, failure=local_conflict)


async def _merge_commit(writer: Writer, ours: str, theirs: str, message: str) -> None:
    await writer.session.ask(
        "merge-tree", "--write-tree", "--name-only", ours, theirs, failure=_merge_conflict
    )
    try:
        await writer.ask(
            "merge",
            "--quiet",
            "--no-stat",
            "--no-verify",
            "-m",
            message,
            theirs,
            failure=local_conflict,
            environment=COMMITTER,
        )
    except ConclaveError:
        if await resolve(writer.session, "MERGE_HEAD") is not None:
            await writer.ask("merge", "--abort")
        raise


COMMITTER = {
    "GIT_AUTHOR_NAME": "Conclave",
    "GIT_AUTHOR_EMAIL": "conclave@localhost",
    "GIT_COMMITTER_NAME": "Conclave",
    "GIT_COMMITTER_EMAIL": "conclave@localhost",
}
"""Whom commits name where nobody else is named."""


async def _named(session: Session, branch: str | None) -> str:
    if branch is not None:
        return branch_name(branch)
    current = await current_branch(session)
    if current is None:
        raise GitConflict("HEAD is detached: name a branch")
    return current


async def _settings_of(session: Session, remotes: GuardedRemotes, remote: str) -> ConfigPairs:
    """Judge a remote's address anew: what it resolves to may have changed since the clone."""
    key = f"remote.{remote_name(remote)}.url"
    found = await session.ask("config", "--local", "--no-includes", "--get-all", key, codes=(0, 1))
    urls = found.text.splitlines()
    if len(urls) != 1:
        raise NoSuchRef(f"Remote {remote} not found")
    return await remotes.settings(urls[0], field="remote")


async def _count(session: Session, head: str, without: list[str]) -> int:
    return int((await session.ask("rev-list", "--count", head, *without)).text)


def _push_failure(output: Output, call: Call) -> ConclaveError:
    """A rejected ref stands in the porcelain output, all else among the complaints."""
    for line in output.text.splitlines():
        if line.startswith("!\t"):
            return GitConflict(f"The push was rejected: {line.split(chr(9), 2)[2]}")
    return remote_failure(output, call)


def _merge_conflict(output: Output, call: Call) -> ConclaveError:
    if output.code != 1:
        return GitConflict(reason_of(output, call))
    lines = output.text.splitlines()[1:]
    names = lines[: lines.index("")] if "" in lines else lines
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return GitConflict(f"The pull conflicts in {shown}; nothing was changed")
