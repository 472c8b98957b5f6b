"""The files of one workspace, by descriptors only. Synchronous: callers bring the thread.

Every operation opens the root anew, goes down by `descriptors`, and acts on the last name
relative to its directory's descriptor, never following a link. Directory names that turn into
links while it runs lead nowhere. Hard links to what lies outside cannot be made through here;
what else writes into the tree has to be kept from making them (docs/decisions/0013).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from conclave.adapters.workspace import removal
from conclave.adapters.workspace.descriptors import (
    DIRECTORY,
    OpenDirectory,
    explained,
    lstat_at,
    open_beneath,
    opened,
    rename_without_replacing,
    walk_down,
)
from conclave.adapters.workspace.errors import (
    FileConflict,
    FileNotThere,
    FileTooLarge,
    PathRefused,
)
from conclave.adapters.workspace.paths import (
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    Parts,
    parse_entry,
    parse_path,
)
from schema.domain.workspaces import Entry, EntryType, FileContent, WrittenFile

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_MODE = 0o644
_PERMISSIONS = 0o777
"""What of a replaced file's mode is kept: neither set-user-id nor set-group-id."""


class Tree:
    """Reads and changes files beneath `root`.

    `beside` is a directory of ours next to the root, on the same file system and out of reach of
    what else uses the workspace: it holds the lock of writers and what is about to be deleted.
    """

    def __init__(self, root: Path, beside: Path, opener: OpenDirectory = open_beneath) -> None:
        self._root = root
        self._beside = beside
        self._opener = opener

    @contextmanager
    def directory(self, names: Sequence[str]) -> Generator[int]:
        """Hold a directory of the tree open."""
        with self._rooted() as root, opened(self._opener, root, names) as descriptor:
            yield descriptor

    @contextmanager
    def _rooted(self) -> Generator[int]:
        try:
            root = os.open(self._root, DIRECTORY)
        except FileNotFoundError:
            raise FileNotThere("The workspace has no files yet") from None
        try:
            yield root
        finally:
            os.close(root)

    @contextmanager
    def _writing(self) -> Generator[None]:
        """Let one writer of any process of ours go at a time."""
        lock = os.open(self._beside / "files.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def open(self, path: str) -> int:
        """Open a file for reading; the descriptor is the caller's to close."""
        parts = parse_entry(path)
        with self.directory(parts[:-1]) as parent:
            return _open(parent, parts)[0]

    def read(self, path: str, *, limit: int) -> FileContent:
        """Return a file. Raises `FileTooLarge` beyond `limit` bytes."""
        parts = parse_entry(path)
        with self.directory(parts[:-1]) as parent:
            return _read(parent, parts, limit)

    def stat(self, path: str) -> Entry:
        """Return what stands under a path; a link is shown as one, and not where it leads."""
        parts = parse_path(path)
        if not parts:
            with self.directory(()) as root:
                return entry_of(parts, os.fstat(root))
        with self.directory(parts[:-1]) as parent:
            return entry_of(parts, _found(parent, parts))

    def write(
        self, path: str, data: bytes, *, limit: int, expected_sha256: str | None = None
    ) -> WrittenFile:
        """Replace or make a file in one step, with its directories.

        With `expected_sha256` only where the file still has that content: `FileConflict` else.
        """
        parts = parse_entry(path)
        if len(data) > limit:
            raise FileTooLarge(f"{'/'.join(parts)} would be larger than {limit} bytes")
        with self._writing(), self._rooted() as root:
            if expected_sha256 is not None:
                with opened(self._opener, root, parts[:-1]) as parent:
                    _expect(parent, parts, limit, expected_sha256)
            with _made(root, parts[:-1], self._opener) as parent:
                return _replace(parent, parts, data)

    def delete(self, path: str, *, recursive: bool) -> None:
        """Delete a file or an empty directory; with `recursive` a full one too.

        A directory is gone at once; what was in it is deleted out of everybody's reach.
        """
        parts = parse_entry(path)
        grave = self._beside / "deleted"
        with self._writing():
            with self.directory(parts[:-1]) as parent:
                found = _found(parent, parts)
                _plain(found, parts)
                if not stat.S_ISDIR(found.st_mode):
                    _unlink(parent, parts)
                elif recursive:
                    removal.bury(parent, parts[-1], grave)
                else:
                    _remove_empty(parent, parts)
            removal.empty(grave)

    def rename(self, source: str, target: str) -> Entry:
        """Move a file or directory to a name that is free, making the directories above it."""
        old, new = parse_entry(source), parse_entry(target)
        if new[: len(old)] == old and new != old:
            raise FileConflict(f"{'/'.join(old)} cannot be moved into itself")
        with (
            self._writing(),
            self._rooted() as root,
            opened(self._opener, root, old[:-1]) as origin,
        ):
            _plain(_found(origin, old), old)
            with _made(root, new[:-1], self._opener) as parent:
                try:
                    rename_without_replacing(origin, old[-1], parent, new[-1])
                except FileNotFoundError:
                    raise FileNotThere(f"{'/'.join(old)} not found") from None
                except OSError as error:
                    raise _occupied(error, new) from None
                return entry_of(new, _found(parent, new))


def entry_of(parts: Parts, found: os.stat_result) -> Entry:
    """Describe what stands under a path."""
    mode = found.st_mode
    if stat.S_ISREG(mode):
        kind = EntryType.FILE
    elif stat.S_ISDIR(mode):
        kind = EntryType.DIRECTORY
    else:
        kind = EntryType.SYMLINK if stat.S_ISLNK(mode) else EntryType.OTHER
    return Entry(
        path="/".join(parts),
        name=parts[-1] if parts else "",
        type=kind,
        size=found.st_size if kind is EntryType.FILE else 0,
        modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
    )


def _found(parent: int, parts: Parts) -> os.stat_result:
    found = lstat_at(parent, parts[-1])
    if found is None:
        raise FileNotThere(f"{'/'.join(parts)} not found")
    return found


def _plain(found: os.stat_result, parts: Parts) -> None:
    """Raise `PathRefused` for what is neither a file nor a directory."""
    if stat.S_ISLNK(found.st_mode):
        raise PathRefused(f"{'/'.join(parts)} is a symbolic link: links are not followed")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise PathRefused(f"{'/'.join(parts)} is neither a file nor a directory")


def _open(parent: int, parts: Parts) -> tuple[int, os.stat_result]:
    """Open a file for reading, and nothing else; the descriptor is the caller's to close."""
    path = "/".join(parts)
    try:
        descriptor = os.open(parts[-1], _READ, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise PathRefused(f"{path} is neither a file nor a directory") from None
        raise explained(error, parent, path) from None
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise FileConflict(f"{path} is a directory")
        _plain(found, parts)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found


def _read(parent: int, parts: Parts, limit: int) -> FileContent:
    path = "/".join(parts)
    descriptor, found = _open(parent, parts)
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1) if found.st_size <= limit else None
    finally:
        os.close(descriptor)
    if data is None or len(data) > limit:
        raise FileTooLarge(f"{path} is larger than {limit} bytes")
    return FileContent(
        path=path,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
    )


def _expect(parent: int, parts: Parts, limit: int, sha256: str) -> None:
    if _read(parent, parts, limit).sha256 != sha256:
        raise FileConflict(f"{'/'.join(parts)} has changed meanwhile")


@contextmanager
def _made(root: int, names: Parts, opener: OpenDirectory) -> Generator[int]:
    """Hold a directory open, making what is missing of the way to it."""
    try:
        current = opener(root, names)
    except FileNotThere:
        current = _make(root, names)
    try:
        yield current
    finally:
        os.close(current)


def _make(root: int, names: Parts) -> int:
    current = os.dup(root)
    try:
        for name in names:
            with suppress(FileExistsError):  # a link in its place is refused by the walk
                os.mkdir(name, 0o755, dir_fd=current)
            below = walk_down(current, (name,))
            os.close(current)
            current = below
    except BaseException:
        os.close(current)
        raise
    return current


def _replace(parent: int, parts: Parts, data: bytes) -> WrittenFile:
    """Write beside the target and rename over it: a reader sees the old file or the new one."""
    path, name = "/".join(parts), parts[-1]
    before = lstat_at(parent, name)
    if before is not None:
        _plain(before, parts)
        if stat.S_ISDIR(before.st_mode):
            raise FileConflict(f"{path} is a directory")
    mode = _NEW_MODE if before is None else before.st_mode & _PERMISSIONS
    temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    descriptor = os.open(temporary, _CREATE, 0o600, dir_fd=parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, mode)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError as error:
        os.unlink(temporary, dir_fd=parent)
        raise _occupied(error, parts) from None
    return WrittenFile(
        path=path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        created=before is None,
    )


def _unlink(parent: int, parts: Parts) -> None:
    try:
        os.unlink(parts[-1], dir_fd=parent)
    except FileNotFoundError:
        raise FileNotThere(f"{'/'.join(parts)} not found") from None
    except IsADirectoryError:
        raise FileConflict(f"{'/'.join(parts)} is a directory") from None


def _remove_empty(parent: int, parts: Parts) -> None:
    try:
        os.rmdir(parts[-1], dir_fd=parent)
    except FileNotFoundError:
        raise FileNotThere(f"{'/'.join(parts)} not found") from None
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise FileConflict(f"{'/'.join(parts)} is not an empty directory") from None
        raise


def _occupied(error: OSError, parts: Parts) -> Exception:
    """Return what a rename onto a path that is taken, or below itself, means."""
    path = "/".join(parts)
    if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR}:
        return FileConflict(f"{path} already exists")
    if error.errno == errno.EINVAL:
        return FileConflict(f"{path} lies within what is to be moved")
    return error
