"""What can go wrong with circuit breakers."""

from __future__ import annotations

from conclave.errors import NotFound


class BreakerNotFound(NotFound):
    """No such breaker: nothing has called under that name yet."""

    code = "circuit_breaker_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Circuit breaker {name} not found")
