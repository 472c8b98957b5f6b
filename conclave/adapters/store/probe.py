"""Whether the object store works: a directory, or a bucket behind an S3 endpoint."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

import httpx

from conclave.errors import Unavailable

_SECONDS = 2.0


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
    """A `DependencyProbe`: asks the endpoint for the bucket's head.

    The request is not signed, so it tells that the endpoint answers and that the bucket is not
    known to be missing; whether the credentials hold is not tried.
    """

    def __init__(self, bucket: str, endpoint: str) -> None:
        self._url = f"{endpoint.rstrip('/')}/{quote(bucket, safe='')}"

    async def check(self) -> None:
        """Raise `Unavailable` where nothing answers, or a 404, or an error of the server."""
        try:
            async with httpx.AsyncClient(timeout=_SECONDS, trust_env=False) as client:
                status = (await client.head(self._url)).status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            kind = type(error).__name__
            raise Unavailable(f"The object store cannot be reached ({kind}).") from None
        if status == 404:
            raise Unavailable("The object store does not know the bucket.")
        if status >= 500:
            raise Unavailable(f"The object store answered {status}.")


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
        return "s3", BucketProbe(parts.netloc, _endpoint(environment))
    return parts.scheme or "unknown", UnknownStoreProbe()


def _endpoint(environment: Mapping[str, str]) -> str:
    """Return the S3 endpoint as Amazon's own tools find it."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if environment.get(name):
            return environment[name]
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    return f"https://s3.{region}.amazonaws.com"
