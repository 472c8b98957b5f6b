"""Directories opened beneath a root, without ever following a link.

Two ways to the same end. `walk_down` opens one name after the other, each relative to the
descriptor before it and with O_NOFOLLOW: a name swapped for a link in between is refused, and
since `..` is never opened there is no way up. `open_beneath` asks the kernel to do it in one call
(openat2) and falls back to the walk where that is not there, or to let it say what is wrong.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from conclave.adapters.workspace.errors import FileConflict, FileNotThere, PathRefused

OpenDirectory = Callable[[int, Sequence[str]], int]
"""Takes a root's descriptor and names; returns a new descriptor, the caller's to close."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SYS_OPENAT2 = 437
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_RENAME_NOREPLACE = 1


class _OpenHow(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


_LIBC = ctypes.CDLL(None, use_errno=True)


def walk_down(root: int, names: Sequence[str]) -> int:
    """Open a directory name by name.

    Raises `PathRefused` at a link, `FileNotThere`, or `FileConflict` where a name on the way is
    a file.
    """
    current = os.dup(root)
    try:
        for place, name in enumerate(names):
            try:
                below = os.open(name, DIRECTORY, dir_fd=current)
            except OSError as error:
                raise explained(error, current, "/".join(names[: place + 1])) from None
            os.close(current)
            current = below
    except BaseException:
        os.close(current)
        raise
    return current


def open_beneath(root: int, names: Sequence[str]) -> int:
    """Open a directory in one system call, else name by name. Raises as `walk_down` does."""
    if names and sys.platform == "linux":
        how = _OpenHow(DIRECTORY, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
        path = ctypes.c_char_p(os.fsencode("/".join(names)))
        size = ctypes.c_size_t(ctypes.sizeof(how))
        found: int = _LIBC.syscall(
            ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(root), path, ctypes.byref(how), size
        )
        if found >= 0:
            return found
    return walk_down(root, names)


def has_openat2() -> bool:
    """Whether this kernel knows openat2."""
    how = _OpenHow(DIRECTORY, 0, 0)
    found: int = _LIBC.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(-100),  # AT_FDCWD
        ctypes.c_char_p(b"/"),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if found >= 0:
        os.close(found)
    return found >= 0


def rename_without_replacing(source: int, name: str, target: int, new_name: str) -> None:
    """Rename between two directories. Raises FileExistsError where the new name is taken."""
    done: int = -1
    code = errno.ENOSYS
    if hasattr(_LIBC, "renameat2"):
        done = _LIBC.renameat2(
            ctypes.c_int(source),
            ctypes.c_char_p(os.fsencode(name)),
            ctypes.c_int(target),
            ctypes.c_char_p(os.fsencode(new_name)),
            ctypes.c_uint(_RENAME_NOREPLACE),
        )
        code = ctypes.get_errno()
    if done == 0:
        return
    if code not in {errno.ENOSYS, errno.EINVAL}:
        raise OSError(code, os.strerror(code))
    # EINVAL: a directory into itself, or a file system without the flag; rename tells which.
    if lstat_at(target, new_name) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)


def lstat_at(directory: int, name: str) -> os.stat_result | None:
    """Return what stands under a name, a link itself and not where it leads; None for nothing."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def explained(error: OSError, directory: int, path: str) -> Exception:
    """Return what a failed open of `path` means; its last name stands in `directory`."""
    name = path.rpartition("/")[2]
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
        found = lstat_at(directory, name)
        if found is None:
            return FileNotThere(f"{path} not found")
        if stat.S_ISLNK(found.st_mode) or error.errno == errno.ELOOP:
            return PathRefused(f"{path} is a symbolic link: links are not followed")
        return FileConflict(f"{path} is not a directory")
    if error.errno == errno.ENOENT:
        return FileNotThere(f"{path} not found")
    if error.errno == errno.ENAMETOOLONG:
        return PathRefused("The path is too long")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return FileConflict(f"{path} may not be opened: its permissions forbid it")
    return error


@contextmanager
def opened(opener: OpenDirectory, root: int, names: Sequence[str]) -> Generator[int]:
    """Hold a directory open for the block."""
    descriptor = opener(root, names)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
