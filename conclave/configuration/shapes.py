"""Settings as they are shown: secrets masked, the database without its password."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from schema.domain.base import Shape


class ShownSetting(Shape):
    """A setting of the catalogue; the value is a text, masked where it is a secret."""

    value: str
    description: str
    is_secret: bool
    is_default: bool
    """Nothing is stored: it comes from the environment or from the catalogue."""


class DatabaseInfo(Shape):
    """Where the database is."""

    host: str
    port: int
    name: str
    user: str
    is_connected: bool


class ApplicationSettings(Shape):
    """The application's own settings in force."""

    environment: str
    debug: bool
    log_level: str


class ComponentStatus(StrEnum):
    """How a part is; one that is not in use is disabled, which harms nobody."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DISABLED = "disabled"


class Component(Shape):
    """What a look at a part found; `error` never holds a secret."""

    status: ComponentStatus
    type: str | None = None
    latency_ms: float | None = None
    error: str | None = None


class Components(Shape):
    """Every part the service stands on, looked at just now."""

    parts: dict[str, Component]
    checked_at: datetime

    @property
    def is_degraded(self) -> bool:
        """Whether a part that is in use does not work."""
        return any(part.status is ComponentStatus.UNHEALTHY for part in self.parts.values())
