"""Names that a caller chooses, judged before git sees them."""

from __future__ import annotations

import re

from conclave.errors import Invalid
from schema.domain.repositories import is_branch_name

_REMOTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def branch_name(name: str) -> str:
    """Return the name of a branch. Raises `Invalid`."""
    if not is_branch_name(name):
        raise Invalid("branch", "is not a name that a git branch can have")
    return name


def remote_name(name: str) -> str:
    """Return the name of a remote. Raises `Invalid`."""
    if not _REMOTE.fullmatch(name) or name.endswith((".lock", ".")) or ".." in name:
        raise Invalid("remote", "is not a name that a git remote can have")
    return name
