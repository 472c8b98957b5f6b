"""Removing trees: out of sight at once, then emptied where nobody else reaches.

What is to go is renamed into a directory of ours beside the workspace, so that whatever shares
the tree with us cannot swap anything while it is emptied. There every subdirectory is first
renamed to the top: no depth costs recursion or descriptors.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from conclave.adapters.workspace.descriptors import DIRECTORY


def bury(directory: int, name: str, grave: Path) -> None:
    """Take a name out of its directory, whatever it is, into `grave`. Raises OSError."""
    grave.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = os.open(grave, DIRECTORY)
    try:
        _move(directory, name, place)
    finally:
        os.close(place)


def empty(grave: Path) -> None:
    """Delete all that was buried, by whoever; may be called any number of times at once."""
    try:
        place = os.open(grave, DIRECTORY)
    except FileNotFoundError:
        return
    try:
        while names := os.listdir(place):
            for name in names:
                _delete(place, name)
    finally:
        os.close(place)


def _move(directory: int, name: str, place: int) -> None:
    fresh = secrets.token_hex(8)
    try:
        os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=place)
    except PermissionError:
        # Moving a directory changes its `..`: one without the right to write has to get it.
        _make_writable(directory, name)
        os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=place)


def _make_writable(directory: int, name: str) -> None:
    descriptor = os.open(name, DIRECTORY, dir_fd=directory)
    try:
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _delete(place: int, name: str) -> None:
    with suppress(FileNotFoundError):  # another one empties too
        if not stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=place)
            return
        os.chmod(name, 0o700, dir_fd=place)  # nobody can make a link of it here
        below = os.open(name, DIRECTORY, dir_fd=place)
        try:
            _clear(below, place)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=place)


def _clear(directory: int, place: int) -> None:
    """Unlink a directory's files and move its subdirectories to `place`."""
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                _move(directory, name, place)
            else:
                os.unlink(name, dir_fd=directory)
