"""IP rules as this dialect writes them."""

from __future__ import annotations

from typing import Annotated, Self, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from api.platform.schemas.fields import Timestamp
from conclave.security.commands import NewIpRule
from schema.domain.security import IpAction, IpRule

MAX_RULES = 1000
_LISTS = (("blocklist", "deny"), ("allowlist", "allow"))
_CIDRS: JsonValue = {"type": "array", "items": {"type": "string", "maxLength": 64}}


class IpRuleOut(BaseModel):
    """A rule; `cidr` is a network in its plain form."""

    id: int
    cidr: str
    action: IpAction
    description: str | None
    created_by: int | None
    created_at: Timestamp

    @classmethod
    def from_domain(cls, rule: IpRule) -> Self:
        """Render a rule."""
        return cls.model_validate(rule.model_dump())


class IpRuleIn(BaseModel):
    """A network, or a lone address."""

    cidr: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
    action: IpAction = IpAction.ALLOW
    description: Annotated[str | None, StringConstraints(max_length=1000)] = None

    def to_command(self) -> NewIpRule:
        """Return it in the core's words."""
        return NewIpRule(cidr=self.cidr, action=self.action, description=self.description)


class IpRulesIn(BaseModel):
    """The whole new list: `rules`, or the bare array, or `allowlist` and `blocklist`."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["rules"]},
                {"properties": {"allowlist": _CIDRS, "blocklist": _CIDRS}},
            ],
            "required": [],
        }
    )

    rules: Annotated[list[IpRuleIn], Field(max_length=MAX_RULES)]

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, value: object) -> object:
        if isinstance(value, list):
            return {"rules": cast("list[object]", value)}
        if isinstance(value, dict) and "rules" not in value:
            return _from_lists(cast("dict[str, object]", value))
        return cast("object", value)

    def to_command(self) -> list[NewIpRule]:
        """Return the rules in the core's words."""
        return [rule.to_command() for rule in self.rules]


def _from_lists(body: dict[str, object]) -> dict[str, object]:
    """Return the rules of `blocklist` and `allowlist`; the body where it has neither."""
    given = [(name, action) for name, action in _LISTS if name in body]
    rules: list[object] = []
    for name, action in given:
        cidrs = body[name]
        if not isinstance(cidrs, list):
            raise ValueError(f"{name} must be a list of networks")
        rules += [{"cidr": cidr, "action": action} for cidr in cast("list[object]", cidrs)]
    return {"rules": rules} if given else body
