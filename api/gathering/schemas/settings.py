"""Settings as this dialect writes them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, StringConstraints, field_validator

from api.gathering.schemas.fields import refuse_null
from conclave.configuration.commands import UpdateApplication
from conclave.configuration.shapes import ApplicationSettings, DatabaseInfo
from conclave.providers.commands import UpdateProvider
from conclave.providers.shapes import ProviderSettings, ProviderTest
from schema.domain.providers import ProviderModel

ApiKey = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=4096, pattern=r"^[!-~]+$"),
]
BaseUrl = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2048)]
DefaultModel = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)
]


class ModelOut(BaseModel):
    """A model of a provider."""

    id: int
    model_name: str
    model_alias: str
    vision: bool
    extended_thinking: bool

    @classmethod
    def from_domain(cls, model: ProviderModel) -> Self:
        """Render a model."""
        return cls.model_validate(model.model_dump())


class ProviderOut(BaseModel):
    """A provider; `api_key` is masked, null where none is set."""

    api_key: str | None
    base_url: str | None
    default_model: str
    is_configured: bool
    models: list[ModelOut]

    @classmethod
    def from_domain(cls, settings: ProviderSettings) -> Self:
        """Render a provider's settings."""
        return cls(
            api_key=settings.api_key,
            base_url=settings.base_url,
            default_model=settings.default_model,
            is_configured=settings.is_configured,
            models=[ModelOut.from_domain(model) for model in settings.models],
        )


class DatabaseOut(BaseModel):
    """Where the database is, without its password."""

    host: str
    port: int
    name: str
    user: str
    is_connected: bool


class ApplicationOut(BaseModel):
    """The application's own settings."""

    environment: str
    debug: bool
    log_level: str

    @classmethod
    def from_domain(cls, settings: ApplicationSettings) -> Self:
        """Render the application's settings."""
        return cls.model_validate(settings.model_dump())


class SettingsOut(BaseModel):
    """All settings."""

    providers: dict[str, ProviderOut]
    database: DatabaseOut
    application: ApplicationOut

    @classmethod
    def from_domain(
        cls,
        providers: list[ProviderSettings],
        database: DatabaseInfo,
        application: ApplicationSettings,
    ) -> Self:
        """Render all of them; every provider is listed."""
        return cls(
            providers={one.provider.value: ProviderOut.from_domain(one) for one in providers},
            database=DatabaseOut.model_validate(database.model_dump()),
            application=ApplicationOut.from_domain(application),
        )


class ProviderPatch(BaseModel):
    """What is left out stays; null clears."""

    api_key: ApiKey | None = None
    base_url: BaseUrl | None = None
    default_model: DefaultModel | None = None

    def to_command(self) -> UpdateProvider:
        """Return the change."""
        return UpdateProvider.model_validate(self.model_dump(exclude_unset=True))


class ApplicationPatch(BaseModel):
    """What is left out stays."""

    debug: bool | None = None
    log_level: Annotated[
        str | None,
        Field(description="DEBUG, INFO, WARNING, ERROR or CRITICAL", max_length=16),
    ] = None

    _not_null = field_validator("debug", "log_level", mode="before")(refuse_null)

    def to_command(self) -> UpdateApplication:
        """Return the change."""
        return UpdateApplication.model_validate(self.model_dump(exclude_unset=True))


class ProviderTestOut(BaseModel):
    """What the provider said; `models` are the names it lists."""

    success: bool
    message: str
    models: list[str]

    @classmethod
    def from_domain(cls, result: ProviderTest) -> Self:
        """Render the outcome."""
        return cls.model_validate(result.model_dump())
