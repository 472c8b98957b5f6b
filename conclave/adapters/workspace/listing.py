"""Listing a workspace's directories, each opened anew beneath the root."""

from __future__ import annotations

import os
from collections import deque

from conclave.adapters.workspace.descriptors import lstat_at
from conclave.adapters.workspace.errors import FileConflict, FileNotThere, PathRefused
from conclave.adapters.workspace.paths import (
    MAX_DEPTH,
    Parts,
    is_git_name,
    is_temporary,
    parse_path,
)
from conclave.adapters.workspace.tree import Tree, entry_of
from schema.domain.workspaces import Entry, EntryType, Listing


def list_tree(tree: Tree, path: str, *, recursive: bool, limit: int) -> Listing:
    """Return what a directory holds, ordered by path; at most `limit` entries.

    Breadth first, so that what a limit leaves out is the deepest. Links are shown and not
    entered. What goes away meanwhile is left out.
    """
    start = parse_path(path)
    entries = _entries(tree, start)
    found: list[Entry] = []
    waiting: deque[list[tuple[Parts, Entry]]] = deque([entries])
    while waiting:
        for parts, entry in waiting.popleft():
            if len(found) == limit:
                return Listing(entries=_ordered(found), truncated=True)
            found.append(entry)
            if recursive and entry.type is EntryType.DIRECTORY and len(parts) < MAX_DEPTH:
                waiting.append(_entries_or_none(tree, parts))
    return Listing(entries=_ordered(found), truncated=False)


def _entries_or_none(tree: Tree, parts: Parts) -> list[tuple[Parts, Entry]]:
    """List a directory that may have been taken away, or swapped for something else."""
    try:
        return _entries(tree, parts)
    except (FileNotThere, FileConflict, PathRefused):
        return []


def _entries(tree: Tree, parts: Parts) -> list[tuple[Parts, Entry]]:
    entries: list[tuple[Parts, Entry]] = []
    with tree.directory(parts) as directory:
        for name in sorted(os.listdir(directory)):
            if is_git_name(name) or is_temporary(name):
                continue
            found = lstat_at(directory, name)
            if found is not None:
                entries.append(((*parts, name), entry_of((*parts, _printable(name)), found)))
    return entries


def _printable(name: str) -> str:
    """Names are bytes: what is not UTF-8 is shown with replacement characters."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _ordered(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.path.split("/"))
