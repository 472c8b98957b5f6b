"""Which object store keeps the bytes of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from conclave.adapters.store.bucket import BucketBlobs
from conclave.adapters.store.directory import DirectoryBlobs
from conclave.ports.blobs import BlobStore


class UnknownStore(ValueError):
    """OBJECT_STORE_URL is of no known kind."""

    def __init__(self) -> None:
        super().__init__("OBJECT_STORE_URL must start with file:/// or s3://")


def blob_store(url: str | None, data_dir: Path, environment: Mapping[str, str]) -> BlobStore:
    """Return what OBJECT_STORE_URL names; without it a directory of the data directory.

    Nothing needs to be reachable yet. Raises `UnknownStore`.
    """
    if not url:
        return DirectoryBlobs(data_dir / "files")
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        return DirectoryBlobs(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return BucketBlobs(parts.netloc, environment)
    raise UnknownStore
