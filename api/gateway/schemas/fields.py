"""Field types that several schemas of this dialect share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path
from pydantic import Field, StringConstraints

MAX_ID = 2**63 - 1
MAX_MESSAGE = 100_000

Id: TypeAlias = Annotated[int, Field(ge=1, le=MAX_ID)]
ProfileName: TypeAlias = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[^/\\?#\x00-\x1f\x7f]+$"
    ),
]
"""Stands in a path: no slashes, question or number signs."""
PathProfile: TypeAlias = Annotated[str, Path(max_length=64)]
ChosenProfile: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=64)]
"""Names a profile that is there; else 404."""
