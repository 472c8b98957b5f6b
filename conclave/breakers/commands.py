"""What administrators ask of circuit breakers."""

from __future__ import annotations

from schema.domain.base import Shape


class Configure(Shape):
    """A breaker's configuration; what is None stays as it is, or is the default."""

    name: str
    failure_threshold: int | None = None
    recovery_timeout_seconds: int | None = None
    success_threshold: int | None = None
    window_seconds: int | None = None
    half_open_max_requests: int | None = None

    @property
    def changes(self) -> dict[str, int]:
        """What was given."""
        return self.model_dump(exclude={"name"}, exclude_none=True)
