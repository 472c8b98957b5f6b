"""Settings of the catalogue as this dialect writes them: every value is a string."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from api.platform.schemas.fields import Timestamp
from conclave.configuration.shapes import Component, Components, ComponentStatus, ShownSetting

MAX_SETTINGS = 200


def _as_text(value: object) -> object:
    """Write numbers and booleans as the strings they stand for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


SettingText: TypeAlias = Annotated[
    str,
    BeforeValidator(_as_text),
    StringConstraints(max_length=8192),
    Field(description="Numbers and booleans are accepted and turned into strings"),
]


class SettingOut(BaseModel):
    """A setting; a secret is masked."""

    value: str
    description: str
    is_secret: bool
    is_default: bool

    @classmethod
    def from_domain(cls, setting: ShownSetting) -> Self:
        """Render a setting."""
        return cls.model_validate(setting.model_dump())


SettingsOut: TypeAlias = dict[str, dict[str, SettingOut]]
"""By category and key."""


def settings_out(catalogue: dict[str, dict[str, ShownSetting]]) -> SettingsOut:
    """Render all of them."""
    return {
        category: {key: SettingOut.from_domain(one) for key, one in settings.items()}
        for category, settings in catalogue.items()
    }


class SettingIn(BaseModel):
    """A new value. An empty text lets the default hold again where a text is expected."""

    value: SettingText


class SettingUpdatedOut(BaseModel):
    """What a setting is from now on."""

    key: str
    status: Literal["updated"] = "updated"
    value: str


class SettingsIn(BaseModel):
    """New values by `category.key`."""

    settings: Annotated[
        dict[Annotated[str, StringConstraints(max_length=129)], SettingText],
        Field(max_length=MAX_SETTINGS),
    ]


class SettingsUpdatedOut(BaseModel):
    """How many were stored; masks that were sent back are not."""

    updated: int


class ComponentOut(BaseModel):
    """What a look at a part found."""

    status: ComponentStatus
    type: str | None = None
    latency_ms: float | None = None
    error: str | None = None

    @classmethod
    def from_domain(cls, component: Component) -> Self:
        """Render a part."""
        return cls.model_validate(component.model_dump())


class ComponentsOut(BaseModel):
    """Every part; a disabled one does not degrade the whole."""

    overall: Literal["healthy", "degraded"]
    components: dict[str, ComponentOut]
    checked_at: Timestamp

    @classmethod
    def from_domain(cls, found: Components) -> Self:
        """Render all of them."""
        return cls(
            overall="degraded" if found.is_degraded else "healthy",
            components={name: ComponentOut.from_domain(part) for name, part in found.parts.items()},
            checked_at=found.checked_at,
        )
