"""What can be asked of circles, in the core's own shapes."""

from __future__ import annotations

from pydantic import Field, JsonValue

from schema.domain.base import Shape
from schema.domain.circles import CircleConfig, MemberRole


class CreateCircle(Shape):
    """A new circle."""

    name: str
    display_name: str
    description: str | None = None
    config: CircleConfig = CircleConfig()


class UpdateCircle(Shape):
    """Changes to a circle: only fields that were set count. `config` is merged key by key."""

    display_name: str = ""
    description: str | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


class AddMember(Shape):
    """An agent that joins."""

    agent_id: int
    role: MemberRole = MemberRole.MEMBER
