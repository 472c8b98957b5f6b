"""Field types that several schemas of this dialect share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from fastapi import Path
from pydantic import AfterValidator, Field, PlainSerializer, StringConstraints

MAX_ID = 2**63 - 1

Id: TypeAlias = Annotated[int, Field(ge=1, le=MAX_ID)]
"""Decimal strings are accepted too."""
PathId: TypeAlias = Annotated[int, Path(ge=0, le=MAX_ID)]
Name: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)
]


def _in_utc(moment: datetime) -> datetime:
    """Read a time without an offset as UTC, and every other in UTC."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("beyond the years 1 to 9999 in UTC") from None


def _with_z(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Timestamp: TypeAlias = Annotated[
    datetime, AfterValidator(_in_utc), PlainSerializer(_with_z, when_used="json")
]
"""RFC 3339; out always in UTC with `Z`."""


def refuse_null(value: object) -> object:
    """Raise ValueError for a null sent where a field may be left out but not emptied."""
    if value is None:
        raise ValueError("may be left out, but not null")
    return value
