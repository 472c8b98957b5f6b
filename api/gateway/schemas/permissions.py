"""The rules for tools as this dialect writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from schema.domain.permissions import PermissionLevel, PermissionMode, Permissions

_Word = Annotated[str, StringConstraints(max_length=255)]


class PermissionsIn(BaseModel):
    """Changes to the rules: what is left out stays."""

    mode: _Word | None = None
    tool_overrides: Annotated[dict[_Word, _Word | None], Field(max_length=1000)] | None = None
    """Takes the place of all overrides there are."""


class PermissionsOut(BaseModel):
    """The rules in force."""

    mode: PermissionMode
    tool_overrides: dict[str, PermissionLevel]

    @classmethod
    def from_domain(cls, permissions: Permissions) -> PermissionsOut:
        """Return the rules in this dialect's shape."""
        return cls.model_validate(permissions.model_dump())


class ToolNamesOut(BaseModel):
    """Every tool there is, sorted."""

    tools: list[str]
