"""Bytes of files in a directory: `<root>/blobs/ab/abcd...`, and `<root>/incoming` before that.

Each piece is written on a thread; a file is synced, renamed into place, and its directory synced.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from conclave.errors import TooLarge, Unavailable
from conclave.ports.blobs import StagedBlob

PIECE = 1024 * 1024
_FORGOTTEN_SECONDS = 24 * 3600
_NAME = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class DirectoryBlobs:
    """A `BlobStore`. Several processes may share the directory."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"

    async def stage(self, pieces: AsyncIterable[bytes], *, limit: int) -> StagedBlob:
        """Write what comes to a file of its own."""
        token = secrets.token_hex(16)
        path = self._incoming / token
        with _named():
            file = await asyncio.to_thread(_Writing, path)
            try:
                async for piece in pieces:
                    if file.size + len(piece) > limit:
                        raise TooLarge(f"The file is larger than {limit} bytes")
                    if file.take(piece):
                        await asyncio.to_thread(file.flush)
                await asyncio.to_thread(file.finish)
            except BaseException:
                # Not on a thread: a cancel must not leave the file behind.
                file.drop()
                raise
        return StagedBlob(token=token, sha256=file.sha256, size_bytes=file.size)

    async def keep(self, staged: StagedBlob) -> None:
        """Rename into place."""
        with _named():
            await asyncio.to_thread(self._keep, staged)

    def _keep(self, staged: StagedBlob) -> None:
        target = self._path(staged.sha256)
        _make(target.parent)
        (self._incoming / staged.token).rename(target)
        _sync_directory(target.parent)

    async def discard(self, staged: StagedBlob) -> None:
        """Unlink what was not renamed."""
        with _named():
            (self._incoming / staged.token).unlink(missing_ok=True)

    async def size(self, sha256: str) -> int | None:
        """Return the file's size."""
        with _named(), suppress(FileNotFoundError):
            return (await asyncio.to_thread(self._path(sha256).stat)).st_size
        return None

    async def read(self, sha256: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Read piece by piece; whoever deletes the file meanwhile takes nothing away."""
        with _named():
            descriptor = os.open(self._path(sha256), os.O_RDONLY | os.O_CLOEXEC)
            try:
                while start < stop:
                    piece = await asyncio.to_thread(
                        os.pread, descriptor, min(PIECE, stop - start), start
                    )
                    if not piece:
                        return
                    start += len(piece)
                    yield piece
            finally:
                os.close(descriptor)

    async def delete(self, sha256: str) -> None:
        """Unlink it."""
        with _named():
            await asyncio.to_thread(self._path(sha256).unlink, missing_ok=True)

    async def names(self) -> AsyncGenerator[list[str]]:
        """Return the names of one directory after the other."""
        for shard in range(256):
            found = await asyncio.to_thread(_listed, self._blobs / f"{shard:02x}")
            names = [name for name in found if _NAME.fullmatch(name)]
            if names:
                yield names

    async def sweep(self) -> int:
        """Unlink what was begun a day ago."""
        with _named():
            return await asyncio.to_thread(self._sweep)

    def _sweep(self) -> int:
        oldest = time.time() - _FORGOTTEN_SECONDS
        done = 0
        for name in filter(_TOKEN.fullmatch, _listed(self._incoming)):
            path = self._incoming / name
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    done += 1
        return done

    def _path(self, sha256: str) -> Path:
        if not _NAME.fullmatch(sha256):
            raise ValueError("not a sha256")
        return self._blobs / sha256[:2] / sha256


class _Writing:
    """A file being written, a piece at a time.

    A thread that writes cannot be cancelled: whoever drops the file waits for it, or it would
    write to whatever has its descriptor next.
    """

    def __init__(self, path: Path) -> None:
        _make(path.parent)
        self._path = path
        self._descriptor = os.open(path, _CREATE, 0o600)
        self._hash = hashlib.sha256()
        self._waiting = bytearray()
        self._lock = threading.Lock()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def take(self, piece: bytes) -> bool:
        """Take bytes; say whether it is time to `flush`."""
        self._waiting += piece
        self.size += len(piece)
        return len(self._waiting) >= PIECE

    def flush(self) -> None:
        """Write what was taken."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        self._hash.update(data)
        view = memoryview(data)
        while view and self._descriptor >= 0:
            view = view[os.write(self._descriptor, view) :]

    def finish(self) -> None:
        """Write the rest and make sure of it."""
        with self._lock:
            self._flush()
            os.fsync(self._descriptor)
            self._close()

    def drop(self) -> None:
        """Remove it."""
        with self._lock:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _make(directory: Path) -> None:
    """Make a directory that is nobody else's business, and make sure that it stays."""
    if directory.is_dir():
        return
    _make(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    _sync_directory(directory.parent)


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named() -> Generator[None]:
    """Tell what the disk refused in words that name no path of this machine."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Unavailable("There is no space left for files", dependency="disk") from error
        reason = error.strerror or type(error).__name__
        message = f"The storage directory cannot be used ({reason})."
        raise Unavailable(message, dependency="disk") from error
