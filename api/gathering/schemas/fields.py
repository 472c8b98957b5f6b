"""Field types that several schemas share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path
from pydantic import Field, JsonValue, StringConstraints

MAX_ID = 2**63 - 1
MAX_PROMPT = 100_000

Id: TypeAlias = Annotated[int, Field(ge=0, le=MAX_ID)]
PathId: TypeAlias = Annotated[int, Path(ge=0, le=MAX_ID)]
PathName: TypeAlias = Annotated[str, Path(max_length=255)]
Prompt: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
Keys: TypeAlias = dict[str, JsonValue]


def refuse_null(value: object) -> object:
    """Raise ValueError for a null sent where a field may be left out but not emptied."""
    if value is None:
        raise ValueError("may be left out, but not null")
    return value
