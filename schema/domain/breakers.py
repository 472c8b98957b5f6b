"""Circuit breakers: whether what is outside is called just now."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from schema.domain.base import Shape

KEPT_TRANSITIONS = 20


class CircuitState(StrEnum):
    """closed: calls go through; open: none does; half_open: a few do, to see whether it is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerConfig(Shape):
    """When a breaker opens, and what it takes to close it."""

    failure_threshold: int = Field(default=5, ge=1, le=1000)
    recovery_timeout_seconds: int = Field(default=60, ge=1, le=86_400)
    success_threshold: int = Field(default=3, ge=1, le=100)
    window_seconds: int = Field(default=120, ge=1, le=86_400)
    half_open_max_requests: int = Field(default=3, ge=1, le=100)


class Transition(Shape):
    """One change of state."""

    from_state: CircuitState
    to_state: CircuitState
    reason: str
    timestamp: datetime


class Probe(Shape):
    """A call that was admitted while half open; its place is free again once it has expired."""

    id: str
    expires_at: datetime


class Breaker(BreakerConfig):
    """A breaker as stored, read at `read_at` by the database's clock.

    `epoch` grows with every change of state, so that calls admitted before one do not count
    after it.
    """

    name: str
    state: CircuitState = CircuitState.CLOSED
    forced: bool = False
    epoch: int = 0
    failures: list[datetime] = Field(default_factory=list[datetime])
    """The latest ones, as many as the threshold at most."""
    success_count: int = 0
    """Probes that were answered since it is half open."""
    total_successes: int = 0
    total_failures: int = 0
    last_failure: datetime | None = None
    opened_at: datetime | None = None
    next_attempt_at: datetime | None = None
    """None while closed, and while forced open."""
    probes: list[Probe] = Field(default_factory=list[Probe])
    transitions: list[Transition] = Field(default_factory=list[Transition])
    created_at: datetime
    read_at: datetime

    @property
    def is_due(self) -> bool:
        """Open for long enough: the next call is a probe."""
        waits_until = self.next_attempt_at
        is_open = self.state is CircuitState.OPEN and not self.forced
        return is_open and waits_until is not None and waits_until <= self.read_at

    @property
    def shown_state(self) -> CircuitState:
        """The state as it holds at `read_at`, though no call may have noticed yet."""
        return CircuitState.HALF_OPEN if self.is_due else self.state

    @property
    def failure_count(self) -> int:
        """Failures within the window."""
        since = self.read_at - timedelta(seconds=self.window_seconds)
        return sum(1 for failure in self.failures if failure > since)

    @property
    def success_rate(self) -> float:
        """Percent of all calls counted; 100 where there were none."""
        total = self.total_successes + self.total_failures
        return round(100 * self.total_successes / total, 2) if total else 100.0
