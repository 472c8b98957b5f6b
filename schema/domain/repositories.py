"""Git repositories as they are told. Paths are relative to the work tree's root."""

from __future__ import annotations

import re
from datetime import datetime

from schema.domain.base import Shape

MAX_BRANCH_BYTES = 200
_UNCLEAN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


def is_branch_name(name: str) -> bool:
    """Whether a git branch can have this name, by the rules of `git check-ref-format`."""
    parts = name.split("/")
    return not (
        len(name.encode("utf-8", "replace")) > MAX_BRANCH_BYTES
        or _UNCLEAN.search(name) is not None
        or name.startswith("-")
        or name.endswith(".")
        or name in {"@", "HEAD"}
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    )


class RenamedFile(Shape):
    """A path that was another one before."""

    before: str
    after: str


class RepositoryStatus(Shape):
    """Where the work tree differs from the index and the index from HEAD.

    `branch` is None where HEAD is detached; `ahead` and `behind` are 0 without an upstream.
    """

    branch: str | None
    head: str | None
    ahead: int
    behind: int
    staged: list[str]
    modified: list[str]
    deleted: list[str]
    renamed: list[RenamedFile]
    untracked: list[str]
    conflicted: list[str]


class Commit(Shape):
    """One commit."""

    hash: str
    short_hash: str
    message: str
    author: str
    author_email: str
    date: datetime
    parents: list[str]


class CommitAuthor(Shape):
    """Who a commit names."""

    name: str
    email: str


class Branch(Shape):
    """A branch; `is_remote` marks what was seen at a remote (`origin/main`)."""

    name: str
    head: str
    is_current: bool
    is_remote: bool


class Diff(Shape):
    """A unified diff and how many lines it adds and removes; binary files count none."""

    text: str
    additions: int
    deletions: int


class Pushed(Shape):
    """How many commits a push sent or a pull brought, and the branch's head after it."""

    remote: str
    branch: str
    count: int
    head: str | None
