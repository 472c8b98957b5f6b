"""Names that a caller chooses, judged by the rules of `git check-ref-format` before git sees
them."""

from __future__ import annotations

import re

from conclave.errors import Invalid

_UNCLEAN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_REMOTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
MAX_BRANCH = 200


def branch_name(name: str, *, field: str = "branch") -> str:
    """Return the name of a branch. Raises `Invalid`."""
    components = name.split("/")
    bad = (
        not name
        or len(name.encode("utf-8", "replace")) > MAX_BRANCH
        or _UNCLEAN.search(name) is not None
        or name.startswith("-")
        or name.endswith(".")
        or name in {"@", "HEAD"}
        or any(not one or one.startswith(".") or one.endswith(".lock") for one in components)
    )
    if bad:
        raise Invalid(field, "is not a name that a git branch can have")
    return name


def remote_name(name: str) -> str:
    """Return the name of a remote. Raises `Invalid`."""
    if not _REMOTE.fullmatch(name) or name.endswith((".lock", ".")) or ".." in name:
        raise Invalid("remote", "is not a name that a git remote can have")
    return name
