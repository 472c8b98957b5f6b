"""What chats may do with tools (gateway.md)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schema.domain.base import Shape


class PermissionMode(StrEnum):
    """Ask before every tool; allow all; allow only what reads."""

    INTERACTIVE = "interactive"
    AUTONOMOUS = "autonomous"
    READONLY = "readonly"


class PermissionLevel(StrEnum):
    """What an override says of one tool."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Permissions(Shape):
    """The mode, and the tools it does not hold for."""

    mode: PermissionMode = PermissionMode.INTERACTIVE
    tool_overrides: dict[str, PermissionLevel] = Field(default_factory=dict)


class Autonomy(StrEnum):
    """How far an agent goes without asking, where nobody sits before it."""

    AUTONOMOUS = "autonomous"
    CAUTIOUS = "cautious"
    SUPERVISED = "supervised"
    READ_ONLY = "read_only"
