"""Profiles as this dialect writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from api.gateway.schemas.fields import ChosenProfile, ProfileName
from conclave.profiles.commands import CreateProfile
from schema.domain.profiles import Profile
from schema.domain.providers import ProviderName

_Model = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
_Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2048)]
_Key = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=4096, pattern=r"^[\x21-\x7e]+$"
    ),
]
_Tokens = Annotated[int, Field(ge=1, le=100_000_000)]


class ProfileFields(BaseModel):
    """A model and how it is reached."""

    provider: ProviderName
    model: _Model
    base_url: _Url | None = None
    api_key: _Key | None = Field(default=None, repr=False)
    context_window: _Tokens | None = None
    max_output_tokens: _Tokens | None = None


class ProfileIn(BaseModel):
    """A new profile."""

    name: ProfileName
    profile: ProfileFields

    def to_command(self) -> CreateProfile:
        """Return it in the core's words."""
        return CreateProfile.model_validate({"name": self.name, **self.profile.model_dump()})


class ProfileOut(BaseModel):
    """A profile; of its key the last characters are shown, of a reference its name."""

    provider: ProviderName
    model: str
    base_url: str | None
    api_key: str | None
    context_window: int | None
    max_output_tokens: int | None

    @classmethod
    def from_domain(cls, profile: Profile) -> ProfileOut:
        """Return a profile in this dialect's shape."""
        return cls.model_validate(profile.model_dump())


class NamedProfileOut(BaseModel):
    """A profile under its name."""

    name: str
    profile: ProfileOut

    @classmethod
    def from_domain(cls, profile: Profile) -> NamedProfileOut:
        """Return a profile in this dialect's shape."""
        return cls(name=profile.name, profile=ProfileOut.from_domain(profile))


class ProfilesOut(BaseModel):
    """All profiles, and which one is the default."""

    default: str | None
    profiles: dict[str, ProfileOut]

    @classmethod
    def of(cls, found: tuple[str | None, Sequence[Profile]]) -> ProfilesOut:
        """Return profiles in this dialect's shape."""
        default, profiles = found
        named = {profile.name: ProfileOut.from_domain(profile) for profile in profiles}
        return cls(default=default, profiles=named)


class ProfileChoice(BaseModel):
    """Which profile to take."""

    profile_name: ChosenProfile


class DefaultOut(BaseModel):
    """Which profile is the default."""

    default: str | None


class ChosenOut(BaseModel):
    """Which profile is in force."""

    profile_name: str | None
