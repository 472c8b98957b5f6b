"""Bytes of files in a bucket behind an S3 endpoint: `blobs/ab/abcd...`, `incoming/` before that.

A finished upload is one object or none, so that nothing is there in part; what is kept is copied
within the store.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from conclave.adapters.store.endpoint import open_bucket
from conclave.errors import TooLarge, Unavailable
from conclave.ports.blobs import StagedBlob

if TYPE_CHECKING:
    from obstore import ObjectMeta

_BLOBS, _INCOMING = "blobs/", "incoming/"
_FORGOTTEN = timedelta(days=1)
_PIECE = 1024 * 1024
_PART = 8 * 1024 * 1024
_MOST_NAMES = 1000
_NAME = re.compile(r"[0-9a-f]{64}")


class BucketBlobs:
    """A `BlobStore`. Connects when it is first used."""

    def __init__(self, bucket: str, environment: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._environment = environment
        self._opened: S3Store | None = None

    async def stage(self, pieces: AsyncIterable[bytes], *, limit: int) -> StagedBlob:
        """Upload as it comes, in parts of 8 MiB."""
        intake = _Intake(pieces, limit)
        token = secrets.token_hex(16)
        with _named():
            writer = obstore.open_writer_async(
                self._store(), _INCOMING + token, buffer_size=_PART, max_concurrency=2
            )
        async for piece in intake:
            with _named():
                await writer.write(piece)
        # Without this there is no object. Parts of an upload that was given up are the bucket's
        # to clear, by a lifecycle rule for incomplete uploads.
        with _named():
            await writer.close()
        return StagedBlob(token=token, sha256=intake.sha256, size_bytes=intake.size)

    async def keep(self, staged: StagedBlob) -> None:
        """Copy to its place, which is one step, and remove the first."""
        with _named():
            await obstore.rename_async(
                self._store(), _INCOMING + staged.token, _path(staged.sha256)
            )

    async def discard(self, staged: StagedBlob) -> None:
        """Delete what was not kept."""
        with _named(), suppress(FileNotFoundError):
            await obstore.delete_async(self._store(), _INCOMING + staged.token)

    async def size(self, sha256: str) -> int | None:
        """Ask for the object's head."""
        with _named(), suppress(FileNotFoundError):
            return (await obstore.head_async(self._store(), _path(sha256)))["size"]
        return None

    async def read(self, sha256: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Fetch a range."""
        if start >= stop:
            return
        with _named():
            found = await obstore.get_async(
                self._store(), _path(sha256), options={"range": (start, stop)}
            )
            async for piece in found.stream(min_chunk_size=_PIECE):
                yield bytes(piece)

    async def delete(self, sha256: str) -> None:
        """Delete the object."""
        with _named(), suppress(FileNotFoundError):
            await obstore.delete_async(self._store(), _path(sha256))

    async def names(self) -> AsyncGenerator[list[str]]:
        """List what is kept, a thousand at a time."""
        with _named():
            async for found in _listed(self._store(), _BLOBS):
                names = [one["path"].rpartition("/")[2] for one in found]
                yield [name for name in names if _NAME.fullmatch(name)]

    async def sweep(self) -> int:
        """Delete what was uploaded a day ago and not kept."""
        oldest = datetime.now(UTC) - _FORGOTTEN
        with _named():
            async for found in _listed(self._store(), _INCOMING):
                old = [one["path"] for one in found if one["last_modified"] < oldest]
                if old:
                    await obstore.delete_async(self._store(), old)
                    return len(old)
        return 0

    def _store(self) -> S3Store:
        if self._opened is None:
            self._opened = open_bucket(self._bucket, self._environment, timeout="60s", retries=3)
        return self._opened


class _Intake:
    """Counts and hashes bytes on their way."""

    def __init__(self, pieces: AsyncIterable[bytes], limit: int) -> None:
        self._pieces = pieces
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for piece in self._pieces:
            self.size += len(piece)
            if self.size > self._limit:
                raise TooLarge(f"The file is larger than {self._limit} bytes")
            self._hash.update(piece)
            yield piece


def _listed(store: S3Store, prefix: str) -> AsyncIterable[Sequence[ObjectMeta]]:
    found: AsyncIterable[Sequence[ObjectMeta]] = obstore.list(  # pyright: ignore[reportUnknownMemberType] -- one of its overloads names another library
        store, prefix, chunk_size=_MOST_NAMES
    )
    return found


def _path(sha256: str) -> str:
    if not _NAME.fullmatch(sha256):
        raise ValueError("not a sha256")
    return f"{_BLOBS}{sha256[:2]}/{sha256}"


@contextmanager
def _named() -> Generator[None]:
    """Tell the kind of what went wrong: texts of the store may quote credentials."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError):
        raise Unavailable("The object store refuses the credentials.") from None
    except (BaseError, OSError):  # what writes raises the latter
        raise Unavailable("The object store cannot be used: no answer, or an error.") from None
