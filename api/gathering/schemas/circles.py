"""Circles as this dialect writes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, cast

from pydantic import BaseModel, StringConstraints, field_validator

from api.gathering.schemas.fields import Id, Keys, refuse_null
from conclave.circles.commands import AddMember, CreateCircle, UpdateCircle
from schema.domain.circles import Circle, CircleConfig, CircleStatus, Member, MemberRole

CircleName = Annotated[
    str, StringConstraints(min_length=1, max_length=50, pattern=r"^[a-z0-9-]+\z")
]
DisplayName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Description = Annotated[str, StringConstraints(max_length=10_000)]


def _one_moderator(config: object) -> object:
    """`facilitator_id` is the other spelling of `moderator_agent_id`."""
    if not isinstance(config, dict) or "facilitator_id" not in config:
        return cast(object, config)
    keys = dict(cast(Keys, config))
    facilitator = keys.pop("facilitator_id")
    keys.setdefault("moderator_agent_id", facilitator)
    return keys


class CircleIn(BaseModel):
    """A new circle; without a `display_name` its name is shown."""

    name: CircleName
    display_name: DisplayName | None = None
    description: Description | None = None
    config: CircleConfig = CircleConfig()

    @field_validator("config", mode="before")
    @classmethod
    def _both_spellings(cls, value: object) -> object:
        return _one_moderator(value)

    def to_command(self) -> CreateCircle:
        """Return it in the core's words."""
        return CreateCircle(
            name=self.name,
            display_name=self.display_name or self.name,
            description=self.description,
            config=self.config,
        )


class CirclePatch(BaseModel):
    """Changes: what is left out stays; `config` is merged key by key."""

    display_name: DisplayName | None = None
    description: Description | None = None
    config: Keys | None = None

    @field_validator("display_name", "config", mode="before")
    @classmethod
    def _not_null(cls, value: object) -> object:
        return _one_moderator(refuse_null(value))

    def to_command(self) -> UpdateCircle:
        """Return it in the core's words, with only what was sent set."""
        return UpdateCircle.model_validate(self.model_dump(exclude_unset=True))


class CircleOut(BaseModel):
    """A circle."""

    id: int
    name: str
    display_name: str
    description: str | None
    status: CircleStatus
    agent_count: int
    config: CircleConfig
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_domain(cls, circle: Circle) -> CircleOut:
        """Render one."""
        return cls(
            id=circle.id,
            name=circle.name,
            display_name=circle.display_name,
            description=circle.description,
            status=circle.status,
            agent_count=circle.agent_count,
            config=circle.config,
            created_at=circle.created_at,
            updated_at=circle.updated_at,
        )


class MemberIn(BaseModel):
    """An agent that joins."""

    agent_id: Id
    role: MemberRole = MemberRole.MEMBER

    def to_command(self) -> AddMember:
        """Return it in the core's words."""
        return AddMember(agent_id=self.agent_id, role=self.role)


class MemberOut(BaseModel):
    """An agent's place in a circle."""

    agent_id: int
    agent_name: str
    provider: str
    model: str
    role: MemberRole
    joined_at: datetime

    @classmethod
    def from_domain(cls, member: Member) -> MemberOut:
        """Render one."""
        return cls(
            agent_id=member.agent_id,
            agent_name=member.agent_name,
            provider=member.provider,
            model=member.model,
            role=member.role,
            joined_at=member.joined_at,
        )
