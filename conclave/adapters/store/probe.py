"""Whether the object store works: a directory, or a bucket behind an S3 endpoint."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from conclave.adapters.store.endpoint import open_bucket
from conclave.errors import Unavailable

_TIMEOUT = "2s"


class DirectoryProbe:
    """A `DependencyProbe`: writes a file, reads it back and deletes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def check(self) -> None:
        """Raise `Unavailable` with the system's reason."""
        await asyncio.to_thread(self._try)

    def _try(self) -> None:
        path = self._directory / f".probe-{uuid4().hex}"
        content = os.urandom(64)
        try:
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            read = path.read_bytes()
            path.unlink()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Unavailable(f"The storage directory cannot be used ({reason}).") from None
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if read != content:
            raise Unavailable("The storage directory gave back something else.")


class BucketProbe:
    """A `DependencyProbe`: writes an object with the credentials at hand, reads and deletes it."""

    def __init__(self, bucket: str, environment: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._environment = environment

    async def check(self) -> None:
        """Raise `Unavailable` with the kind of what went wrong: texts may quote credentials."""
        store = open_bucket(self._bucket, self._environment, timeout=_TIMEOUT, retries=0)
        name, content = f".probe-{uuid4().hex}", os.urandom(64)
        try:
            await obstore.put_async(store, name, content)
            try:
                read = bytes(await (await obstore.get_async(store, name)).bytes_async())
            finally:
                await obstore.delete_async(store, name)
        except (PermissionDeniedError, UnauthenticatedError):
            raise Unavailable("The object store refuses the credentials.") from None
        except FileNotFoundError:
            raise Unavailable("The object store does not know the bucket.") from None
        except BaseError:
            raise Unavailable("The object store cannot be used: no answer, or an error.") from None
        if read != content:
            raise Unavailable("The object store gave back something else.")


class UnknownStoreProbe:
    """A `DependencyProbe` for a URL of no known kind."""

    async def check(self) -> None:
        """Raise `Unavailable`, always."""
        raise Unavailable("OBJECT_STORE_URL must start with file:/// or s3://.")


def store_probe(
    url: str, environment: Mapping[str, str]
) -> tuple[str, DirectoryProbe | BucketProbe | UnknownStoreProbe]:
    """Return the type of the store and the probe that fits OBJECT_STORE_URL."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return "file", DirectoryProbe(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return "s3", BucketProbe(parts.netloc, environment)
    return parts.scheme or "unknown", UnknownStoreProbe()
