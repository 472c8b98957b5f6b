"""Files of a workspace. Every path is relative to its root and written with `/`."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum

from schema.domain.base import Shape

_SCRATCH = re.compile(r"chat-([1-9][0-9]{0,17})")
_TASK = re.compile(r"task-([1-9][0-9]{0,17})")


def scratch_name(conversation_id: int) -> str:
    """Return the name of the workspace of a conversation that has no project."""
    return f"chat-{conversation_id}"


def conversation_of(name: str) -> int | None:
    """Return whose scratch workspace has this name; None where it is no such name."""
    found = _SCRATCH.fullmatch(name)
    return None if found is None else int(found[1])


def task_place(task_id: int) -> str:
    """Return the name of the workspace of a task of a project."""
    return f"task-{task_id}"


def task_branch(task_id: int) -> str:
    """Return the branch that a task of a project works on."""
    return f"conclave/task-{task_id}"


def task_of(name: str) -> int | None:
    """Return which task's workspace has this name; None where it is no such name."""
    found = _TASK.fullmatch(name)
    return None if found is None else int(found[1])


class EntryType(StrEnum):
    """What stands under a name. Links are shown and never followed."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"
    """A device, a pipe or a socket: shown, never opened."""


class Entry(Shape):
    """One name in a directory. `size` is in bytes, 0 for what is not a file."""

    path: str
    name: str
    type: EntryType
    size: int
    modified_at: datetime


class Listing(Shape):
    """What a directory holds, by path; `truncated` where a limit cut it off."""

    entries: list[Entry]
    truncated: bool


class FileContent(Shape):
    """A file as it was read. `sha256` (hex) is what an edit names as what it expects."""

    path: str
    data: bytes
    sha256: str
    modified_at: datetime

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    @property
    def text(self) -> str | None:
        """The content as text; None for what is binary: it holds a NUL or is not UTF-8."""
        if b"\x00" in self.data:
            return None
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            return None


class WrittenFile(Shape):
    """A file as it was written."""

    path: str
    size: int
    sha256: str
    created: bool
