"""Files for those who hand them in or refer to them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Sequence
from typing import Protocol

from conclave.db import Transaction
from schema.domain.files import FileRef, StoredFile
from schema.domain.tools import ToolPlace


class FileDesk(Protocol):
    """Tells of files by their ids."""

    async def refs(self, tx: Transaction, ids: Sequence[int]) -> list[FileRef]:
        """Return them in the order asked for; those that are gone are left out."""
        ...

    async def exists(self, tx: Transaction, ids: Collection[int]) -> frozenset[int]:
        """Return which of these there are and everybody may see."""
        ...


class OutputFiles(Protocol):
    """Takes what agents hand in."""

    async def publish(
        self,
        place: ToolPlace,
        path: str,
        pieces: AsyncIterable[bytes],
        *,
        filename: str | None = None,
        description: str | None = None,
    ) -> StoredFile:
        """Store a file of the workspace; a task's is listed with the task's output.

        The same path with the same content twice, for one conversation, is one file. Raises
        `TooLarge`, `FileTypeRefused`.
        """
        ...
