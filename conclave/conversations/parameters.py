"""How statements that are built once name their parameters."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import bindparam
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import TypeEngine

T = TypeVar("T")


def parameter(name: str, type_: type[TypeEngine[T]] | TypeEngine[T]) -> BindParameter[T]:
    """A parameter; SQLAlchemy keeps the bare column names for itself, so it ends with `_`."""
    return bindparam(f"{name}_", type_=type_)


def given(**values: object) -> dict[str, object]:
    """Return values as the statements' parameters."""
    return {f"{name}_": value for name, value in values.items()}
