"""Files over a real database and a real directory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conclave.adapters.store.directory import DirectoryBlobs
from conclave.auditing import AuditLog
from conclave.db import Database
from conclave.files.service import FileService
from conclave.files.signing import DownloadSigner
from conclave.files.upkeep import FileUpkeep
from schema.domain.files import StoredFile
from schema.domain.identity import Principal, PrincipalKind, Role
from schema.domain.settings import KeptSetting, SettingValue

ADA = Principal(kind=PrincipalKind.USER, id=12, user_id=12, role=Role.OPERATOR)
BOB = Principal(kind=PrincipalKind.USER, id=14, user_id=14, role=Role.OPERATOR)


@dataclass
class Values:
    """Settings that a test sets."""

    values: dict[str, SettingValue] = field(
        default_factory=lambda: {
            "storage.max_file_size_mb": 1,
            "storage.allowed_file_types": "*",
            "storage.auto_cleanup_days": 0,
        }
    )

    async def current(self, *names: str) -> Mapping[str, KeptSetting]:
        return {name: KeptSetting(value=self.values[name], is_stored=True) for name in names}


@dataclass
class Shelf:
    """What a test works with."""

    db: Database
    root: Path
    settings: Values
    blobs: DirectoryBlobs
    files: FileService
    upkeep: FileUpkeep

    def stored(self) -> list[str]:
        """Every file of the store."""
        return sorted(
            str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()
        )

    async def upload(self, content: bytes = b"hello", name: str = "a.txt") -> StoredFile:
        return await self.files.upload(name, None, one(content), ADA)

    async def content(self, file: StoredFile) -> bytes:
        return b"".join([piece async for piece in self.files.bytes_of(file, 0, file.size_bytes)])


async def one(content: bytes) -> AsyncIterator[bytes]:
    """Bytes that come at once."""
    yield content


@pytest.fixture
def shelf(clean_database: Database, tmp_path: Path) -> Shelf:
    root = tmp_path / "files"
    settings, blobs = Values(), DirectoryBlobs(root)
    files = FileService(clean_database, AuditLog(), blobs, settings, DownloadSigner(None))
    upkeep = FileUpkeep(clean_database, files, blobs, settings)
    return Shelf(clean_database, root, settings, blobs, files, upkeep)
