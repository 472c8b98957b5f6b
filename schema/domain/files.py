"""Files: bytes that people upload and tasks hand in, each with a row that names it."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

from pydantic import Field, JsonValue

from schema.domain.base import Shape

LONGEST_NAME = 255
UNKNOWN_TYPE = "application/octet-stream"
_NAMELESS = "file"
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What writes a name backwards: `gpj.exe` would read `exe.jpg`."""
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


class NewFile(Shape):
    """A file about to be stored, its bytes apart."""

    filename: str
    content_type: str = UNKNOWN_TYPE
    task_id: int | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    uploaded_by_user_id: int | None = None
    uploaded_by_agent_id: int | None = None
    conversation_id: int | None = None
    publication: str | None = None
    """Unique within a conversation: the same one is the same file."""
    owner: str | None = None
    """Who alone sees it besides administrators; None: everybody."""


class StoredFile(NewFile):
    """A file as stored. `sha256` (hex) is where its bytes are."""

    id: int
    size_bytes: int
    sha256: str
    created_at: datetime


class FileRef(Shape):
    """A file as tasks and messages name it."""

    id: int
    filename: str
    size_bytes: int
    content_type: str


def base_name(sent: str) -> str:
    """Return what a file may be called: the last name of a path, without control characters."""
    name = re.split(r"[/\\]", sent)[-1]
    kept = "".join(one for one in name if unicodedata.category(one) not in {"Cc", "Cs", "Zl", "Zp"})
    kept = _TURNING.sub("", kept).strip()
    if not kept.strip("."):
        return _NAMELESS
    if len(kept) <= LONGEST_NAME:
        return kept
    stem, dot, ending = kept.rpartition(".")
    if not dot or len(ending) > 16:
        return kept[:LONGEST_NAME]
    return f"{stem[: LONGEST_NAME - len(ending) - 1]}.{ending}"


def plain_type(sent: str | None) -> str | None:
    """Return `type/subtype` in small letters, without parameters; None for what is no type."""
    found = (sent or "").partition(";")[0].strip().lower()
    return found if _TYPE.fullmatch(found) else None
