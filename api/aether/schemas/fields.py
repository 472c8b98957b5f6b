"""Field types that several schemas of this dialect share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from fastapi import Path
from pydantic import PlainSerializer, StringConstraints

MAX_ID = 2**63 - 1

PathId: TypeAlias = Annotated[int, Path(ge=0, le=MAX_ID)]
Name: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)
]
Text: TypeAlias = Annotated[str, StringConstraints(max_length=20_000)]


def _with_z(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Timestamp: TypeAlias = Annotated[datetime, PlainSerializer(_with_z, when_used="json")]
"""RFC 3339 in UTC with `Z`."""


def refuse_null(value: object) -> object:
    """Raise ValueError for a null sent where a field may be left out but not emptied."""
    if value is None:
        raise ValueError("may be left out, but not null")
    return value
