"""A workspace's files for the core: each operation on a thread, odd failures of the disk named."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager

from conclave.adapters.workspace.errors import FileConflict, FileNotThere
from conclave.adapters.workspace.listing import list_tree
from conclave.adapters.workspace.tree import Tree
from conclave.errors import Unavailable
from schema.domain.workspaces import Entry, FileContent, Listing, WrittenFile

MAX_FILE_BYTES = 5 * 1024 * 1024
_PIECE = 1024 * 1024


class DirectoryFiles:
    """A `FileTree` on a directory."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    async def read(self, path: str) -> FileContent:
        """Return a file."""
        with _named():
            return await asyncio.to_thread(self._tree.read, path, limit=MAX_FILE_BYTES)

    async def pieces(self, path: str) -> AsyncGenerator[bytes]:
        """Return a file's bytes as they are read."""
        with _named():
            descriptor = await asyncio.to_thread(self._tree.open, path)
            try:
                offset = 0
                # By offset: a read that outlives its cancel takes nothing from whatever has the
                # descriptor next.
                while piece := await asyncio.to_thread(os.pread, descriptor, _PIECE, offset):
                    offset += len(piece)
                    yield piece
            finally:
                os.close(descriptor)

    async def write(
        self, path: str, data: bytes, *, expected_sha256: str | None = None
    ) -> WrittenFile:
        """Replace or make a file."""
        with _named():
            return await asyncio.to_thread(
                self._tree.write,
                path,
                data,
                limit=MAX_FILE_BYTES,
                expected_sha256=expected_sha256,
            )

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file or a directory."""
        with _named():
            await asyncio.to_thread(self._tree.delete, path, recursive=recursive)

    async def rename(self, source: str, target: str) -> Entry:
        """Move a file or a directory."""
        with _named():
            return await asyncio.to_thread(self._tree.rename, source, target)

    async def stat(self, path: str) -> Entry:
        """Return what stands under a path."""
        with _named():
            return await asyncio.to_thread(self._tree.stat, path)

    async def list(
        self, path: str = "", *, recursive: bool = False, limit: int = 10_000
    ) -> Listing:
        """Return what a directory holds."""
        with _named():
            return await asyncio.to_thread(
                list_tree, self._tree, path, recursive=recursive, limit=limit
            )


@contextmanager
def _named() -> Generator[None]:
    """Tell what the disk refused in words that name no path of this machine."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotThere("It was moved or deleted meanwhile") from None
    except PermissionError:
        raise FileConflict("The file's permissions forbid it") from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Unavailable("There is no space left for files", dependency="disk") from None
        raise
