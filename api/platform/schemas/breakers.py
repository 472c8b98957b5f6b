"""Circuit breakers as this dialect writes them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from api.platform.schemas.fields import Timestamp, refuse_null
from conclave.breakers.commands import Configure
from schema.domain.breakers import Breaker, CircuitState

_NAME = r"^[a-z0-9][a-z0-9_.:-]*$"
BreakerName: TypeAlias = Annotated[str, Path(min_length=1, max_length=100, pattern=_NAME)]
_Thousand = Annotated[int, Field(ge=1, le=1000)]
_Hundred = Annotated[int, Field(ge=1, le=100)]
_Seconds = Annotated[int, Field(ge=1, le=86_400)]
_Given = BeforeValidator(refuse_null)


class BreakerIn(BaseModel):
    """A breaker to make or to configure; what is left out stays, or is the default."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_NAME)]
    failure_threshold: Annotated[_Thousand | None, _Given] = None
    recovery_timeout_seconds: Annotated[_Seconds | None, _Given] = None
    success_threshold: Annotated[_Hundred | None, _Given] = None
    window_seconds: Annotated[_Seconds | None, _Given] = None
    half_open_max_requests: Annotated[_Hundred | None, _Given] = None

    def to_command(self) -> Configure:
        """Return it in the core's words."""
        return Configure.model_validate(self.model_dump())


class ForceOpenIn(BaseModel):
    """Why it is kept open."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)] | None = None


class TransitionOut(BaseModel):
    """One change of state."""

    from_state: CircuitState
    to_state: CircuitState
    reason: str
    timestamp: Timestamp


class BreakerOut(BaseModel):
    """A breaker; `failure_count` counts within the window, `success_count` since half open."""

    name: str
    state: CircuitState
    forced: bool
    failure_count: int
    success_count: int
    total_successes: int
    total_failures: int
    success_rate: float
    last_failure: Timestamp | None
    opened_at: Timestamp | None
    next_attempt_at: Timestamp | None
    failure_threshold: int
    recovery_timeout_seconds: int
    success_threshold: int
    window_seconds: int
    half_open_max_requests: int
    transitions: list[TransitionOut]

    @classmethod
    def from_domain(cls, breaker: Breaker) -> BreakerOut:
        """Return a breaker in this dialect's shape."""
        counted = {
            "state": breaker.shown_state,
            "failure_count": breaker.failure_count,
            "success_rate": breaker.success_rate,
        }
        return cls.model_validate({**breaker.model_dump(), **counted})
