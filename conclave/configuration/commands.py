"""What can be asked of the application's settings."""

from __future__ import annotations

from schema.domain.base import Shape


class UpdateApplication(Shape):
    """Change the application's own settings: fields that were not given stay."""

    debug: bool | None = None
    log_level: str | None = None
