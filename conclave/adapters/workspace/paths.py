"""Paths of a workspace as they are sent: judged by their spelling before anything is touched."""

from __future__ import annotations

import os
import re

from conclave.adapters.workspace.errors import PathRefused

Parts = tuple[str, ...]
"""The names from the root down; none of them is empty, `.`, `..` or a spelling of `.git`."""

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_DEPTH = 200

TEMPORARY_PREFIX = ".conclave-"
TEMPORARY_SUFFIX = "~"
"""Files being written: gone after a moment, never listed, never to be addressed."""

_IGNORED_BY_HFS = re.compile(
    "[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]"  # code points that HFS+ leaves out of names
)
_GIT_NAMES = {".git", "git~1"}


def is_git_name(name: str) -> bool:
    """Whether some file system would take this name for `.git`."""
    plain = _IGNORED_BY_HFS.sub("", name).partition(":")[0].rstrip(" .").casefold()
    return plain in _GIT_NAMES


def is_temporary(name: str) -> bool:
    """Whether this is one of our own files that are still being written."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def parse_path(path: str) -> Parts:
    """Return a path's names; empty for the root (`""`, `"."` or `"./"`). Raises `PathRefused`."""
    if path.startswith("/"):
        raise PathRefused("The path must be relative to the workspace")
    if "\x00" in path:
        raise PathRefused("The path holds a NUL character")
    if len(_encoded(path)) > MAX_PATH_BYTES:
        raise PathRefused(f"The path is longer than {MAX_PATH_BYTES} bytes")
    parts = tuple(name for name in path.split("/") if name not in {"", "."})
    if len(parts) > MAX_DEPTH:
        raise PathRefused(f"The path is more than {MAX_DEPTH} directories deep")
    for name in parts:
        _judge(name)
    return parts


def parse_entry(path: str) -> Parts:
    """Return the names of a path that must not be the root itself. Raises `PathRefused`."""
    parts = parse_path(path)
    if not parts:
        raise PathRefused("The path names the workspace itself")
    return parts


def _judge(name: str) -> None:
    if name == "..":
        raise PathRefused("The path leaves the workspace")
    if any(is_git_name(piece) for piece in name.split("\\")):
        raise PathRefused("The path reaches into .git")
    if is_temporary(name):
        raise PathRefused("The path names a file that is being written")
    if len(_encoded(name)) > MAX_NAME_BYTES:
        raise PathRefused(f"A name in the path is longer than {MAX_NAME_BYTES} bytes")


def _encoded(text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        raise PathRefused("The path is not valid Unicode") from None
