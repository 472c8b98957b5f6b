"""Where the bytes of files are kept: by their content, never changed, only added and removed."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StagedBlob:
    """Bytes that were taken in and are not yet in their place."""

    token: str
    sha256: str
    size_bytes: int


class BlobStore(Protocol):
    """Keeps bytes under their sha256 (hex). Everything raises `Unavailable` where it is away."""

    async def stage(self, pieces: AsyncIterable[bytes], *, limit: int) -> StagedBlob:
        """Take bytes in as they come, out of sight. Raises `TooLarge` beyond `limit` bytes.

        What was taken in is gone again when it raises, and after a day where nobody keeps it.
        """
        ...

    async def keep(self, staged: StagedBlob) -> None:
        """Put bytes in their place, in one step: once it returns, no crash loses them.

        The same content there already is replaced by itself.
        """
        ...

    async def discard(self, staged: StagedBlob) -> None:
        """Remove bytes that are not wanted; nothing happens where they were kept."""
        ...

    async def size(self, sha256: str) -> int | None:
        """Return how many bytes are there, None where there are none of that name."""
        ...

    def read(self, sha256: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return bytes from `start` up to but without `stop`, piece by piece."""
        ...

    async def delete(self, sha256: str) -> None:
        """Remove bytes. May be repeated."""
        ...

    def names(self) -> AsyncIterator[list[str]]:
        """Return what is kept, some at a time."""
        ...

    async def sweep(self) -> int:
        """Remove what was taken in a day ago or earlier and never kept; return how much."""
        ...
