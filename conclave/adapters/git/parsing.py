"""Reading what git's plumbing prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from schema.domain.repositories import Branch, Commit, RenamedFile, RepositoryStatus

LOG_FORMAT = "%H%x1f%h%x1f%P%x1f%an%x1f%ae%x1f%aI%x1f%B"
BRANCH_FORMAT = "%(refname)%09%(objectname)%09%(HEAD)%09%(symref)"
_UNBORN = "(initial)"
_DETACHED = "(detached)"


@dataclass
class _Found:
    """A status while it is read."""

    branch: str | None = None
    head: str | None = None
    ahead: int = 0
    behind: int = 0
    staged: list[str] = field(default_factory=list[str])
    modified: list[str] = field(default_factory=list[str])
    deleted: list[str] = field(default_factory=list[str])
    renamed: list[RenamedFile] = field(default_factory=list[RenamedFile])
    untracked: list[str] = field(default_factory=list[str])
    conflicted: list[str] = field(default_factory=list[str])

    def header(self, line: str) -> None:
        """Take a `# branch...` line."""
        key, _, value = line.partition(" ")
        if key == "branch.oid":
            self.head = None if value == _UNBORN else value
        elif key == "branch.head":
            self.branch = None if value == _DETACHED else value
        elif key == "branch.ab":
            ahead, behind = value.split()
            self.ahead, self.behind = abs(int(ahead)), abs(int(behind))

    def change(self, states: str, path: str) -> None:
        """Take the two states of a path: index against HEAD, work tree against index."""
        index, tree = states
        if index != ".":
            self.staged.append(path)
        if tree in "MT":
            self.modified.append(path)
        if "D" in states:
            self.deleted.append(path)


def parse_status(out: bytes) -> RepositoryStatus:
    """Read `status --porcelain=v2 --branch -z`."""
    found = _Found()
    fields = iter(_texts(out))
    for line in fields:
        kind, _, rest = line.partition(" ")
        if kind == "#":
            found.header(rest)
        elif kind == "1":
            found.change(rest[:2], rest.split(" ", 7)[7])
        elif kind == "2":
            path = rest.split(" ", 8)[8]
            found.change(rest[:2], path)
            found.renamed.append(RenamedFile(before=next(fields), after=path))
        elif kind == "u":
            found.conflicted.append(rest.split(" ", 9)[9])
        elif kind == "?":
            found.untracked.append(rest)
    return RepositoryStatus(**vars(found))


def parse_commits(out: bytes) -> list[Commit]:
    """Read `log -z` in LOG_FORMAT."""
    return [_commit(text) for text in _texts(out)]


def _commit(text: str) -> Commit:
    hash_, short, parents, author, email, date, message = text.split("\x1f", 6)
    return Commit(
        hash=hash_,
        short_hash=short,
        message=message.strip("\n"),
        author=author,
        author_email=email,
        date=datetime.fromisoformat(date),
        parents=parents.split(),
    )


def parse_branches(text: str) -> Sequence[Branch]:
    """Read `for-each-ref` in BRANCH_FORMAT; `origin/HEAD`, which is another's name, is left out."""
    branches: list[Branch] = []
    for line in text.splitlines():
        ref, head, mark, symref = line.split("\t")
        if symref:
            continue
        is_remote = ref.startswith("refs/remotes/")
        name = ref.removeprefix("refs/heads/").removeprefix("refs/remotes/")
        branches.append(Branch(name=name, head=head, is_current=mark == "*", is_remote=is_remote))
    return branches


def parse_numstat(out: bytes) -> tuple[int, int]:
    """Sum up `diff --numstat -z`: lines added and removed; binary files say `-`."""
    added = removed = 0
    for text in _texts(out):
        counts = text.split("\t")
        if len(counts) == 3 and counts[0].isdigit() and counts[1].isdigit():
            added += int(counts[0])
            removed += int(counts[1])
    return added, removed


def _texts(out: bytes) -> list[str]:
    return [piece.decode("utf-8", "replace") for piece in out.split(b"\x00") if piece]
