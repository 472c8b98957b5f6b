"""Which files are taken: `storage.max_file_size_mb` and `storage.allowed_file_types`."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Protocol

from conclave.files.errors import FileTypeRefused
from schema.domain.base import Shape
from schema.domain.files import UNKNOWN_TYPE, plain_type
from schema.domain.settings import KeptSetting

_SIZE, _TYPES, _DAYS = (
    "storage.max_file_size_mb",
    "storage.allowed_file_types",
    "storage.auto_cleanup_days",
)
_MEGABYTE = 1024 * 1024


class StorageSettings(Protocol):
    """The application's settings."""

    async def current(self, *names: str) -> Mapping[str, KeptSetting]:
        """Return the named ones, read at most a second ago."""
        ...


class FileRules(Shape):
    """What is in force."""

    limit: int
    """Bytes."""
    allowed: tuple[str, ...]
    """Types (`image/png`, `image/*`) and endings (`.pdf`, `pdf`); `*` or none: every file."""
    days: int
    """How long files are kept, 0 for ever."""

    def check(self, filename: str, content_type: str) -> None:
        """Raise `FileTypeRefused` for what is not taken: by its type as told, or its ending."""
        ending = filename.rpartition(".")[2].lower() if "." in filename else ""
        family = content_type.partition("/")[0]
        fits = {"*", "*/*", content_type, f"{family}/*", f".{ending}", ending} - {"", "."}
        if self.allowed and not fits & set(self.allowed):
            raise FileTypeRefused(filename, content_type)


async def rules_in_force(settings: StorageSettings) -> FileRules:
    """Read them."""
    kept = await settings.current(_SIZE, _TYPES, _DAYS)
    size, days = kept[_SIZE].value, kept[_DAYS].value
    types = str(kept[_TYPES].value or "")
    return FileRules(
        limit=int(size or 0) * _MEGABYTE,
        allowed=tuple(filter(None, (one.strip().lower() for one in types.split(",")))),
        days=int(days or 0),
    )


def type_of(filename: str, told: str | None) -> str:
    """Return what a file is: as told, else what its name says."""
    plain = plain_type(told)
    if plain is None or plain == UNKNOWN_TYPE:
        return mimetypes.guess_type(filename, strict=True)[0] or UNKNOWN_TYPE
    return plain
