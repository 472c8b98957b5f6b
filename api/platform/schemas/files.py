"""Files as this dialect writes them."""

from __future__ import annotations

from pydantic import BaseModel, JsonValue

from api.platform.schemas.fields import Timestamp
from conclave.files.signing import VALID_SECONDS, DownloadGrant
from schema.domain.files import StoredFile


class FileOut(BaseModel):
    """A file, without its bytes."""

    id: int
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    task_id: int | None
    tags: list[str]
    metadata: dict[str, JsonValue]
    uploaded_by_user_id: int | None
    uploaded_by_agent_id: int | None
    created_at: Timestamp

    @classmethod
    def from_domain(cls, file: StoredFile) -> FileOut:
        """Return a file in this dialect's shape."""
        return cls.model_validate(file.model_dump())


class DownloadOut(BaseModel):
    """An address that needs no credentials."""

    url: str
    filename: str
    expires_in: int
    expires_at: Timestamp

    @classmethod
    def from_domain(cls, file: StoredFile, grant: DownloadGrant, base: str) -> DownloadOut:
        """Return the address below `base`, which ends in a slash."""
        query = f"expires={grant.expires}&signature={grant.signature}"
        return cls(
            url=f"{base}api/v1/files/{file.id}/download?{query}",
            filename=file.filename,
            expires_in=VALID_SECONDS,
            expires_at=grant.expires_at,
        )
