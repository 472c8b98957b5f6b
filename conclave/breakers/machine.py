"""The state machine of a breaker: pure code, by the clock of the database (`Breaker.read_at`).

closed → open: as many failures within the window as the threshold. open → half_open: the first
call after the recovery timeout. half_open → closed: enough probes answered; → open: one failed.
"""

from __future__ import annotations

from datetime import timedelta

from conclave.ports.breakers import Permit
from schema.domain.breakers import (
    KEPT_TRANSITIONS,
    Breaker,
    CircuitState,
    Probe,
    Transition,
)

_REASON_LIMIT = 300


def claim(breaker: Breaker, probe: str, lasts: float) -> Breaker | None:
    """Give a probe a place; None where it gets none."""
    if breaker.is_due:
        breaker = _moved(
            breaker, CircuitState.HALF_OPEN, "the recovery timeout is over", success_count=0
        )
    if breaker.state is not CircuitState.HALF_OPEN:
        return None
    held = [place for place in breaker.probes if place.expires_at > breaker.read_at]
    if len(held) >= breaker.half_open_max_requests:
        return None
    place = Probe(id=probe, expires_at=breaker.read_at + timedelta(seconds=lasts))
    return breaker.model_copy(update={"probes": [*held, place]})


def answered(breaker: Breaker, permit: Permit) -> Breaker:
    """Count a call that was answered."""
    breaker = breaker.model_copy(update={"total_successes": breaker.total_successes + 1})
    if permit.epoch != breaker.epoch or breaker.state is not CircuitState.HALF_OPEN:
        return breaker
    breaker = released(breaker, permit)
    count = breaker.success_count + 1
    if count < breaker.success_threshold:
        return breaker.model_copy(update={"success_count": count})
    return _closed(breaker, f"{count} probes were answered")


def failed(breaker: Breaker, permit: Permit, reason: str) -> Breaker:
    """Count a call that failed."""
    now = breaker.read_at
    breaker = breaker.model_copy(
        update={"total_failures": breaker.total_failures + 1, "last_failure": now}
    )
    if permit.epoch != breaker.epoch or breaker.state is CircuitState.OPEN:
        return breaker
    if breaker.state is CircuitState.HALF_OPEN:
        return _opened(breaker, f"a probe failed: {reason}")
    since = now - timedelta(seconds=breaker.window_seconds)
    recent = [*(failure for failure in breaker.failures if failure > since), now]
    recent = recent[-breaker.failure_threshold :]
    breaker = breaker.model_copy(update={"failures": recent})
    if len(recent) < breaker.failure_threshold:
        return breaker
    told = f"{len(recent)} failures within {breaker.window_seconds} s, the last: {reason}"
    return _opened(breaker, told)


def released(breaker: Breaker, permit: Permit) -> Breaker:
    """Free a probe's place."""
    held = [place for place in breaker.probes if place.id != permit.probe]
    return breaker.model_copy(update={"probes": held})


def forced_open(breaker: Breaker, reason: str | None) -> Breaker:
    """Keep it open until somebody lets go of it."""
    told = f"forced open: {reason}" if reason else "forced open"
    return _opened(breaker, told).model_copy(update={"forced": True, "next_attempt_at": None})


def forced_closed(breaker: Breaker) -> Breaker:
    """Go back to normal working, without the failures so far."""
    return _closed(breaker, "forced closed")


def reset(breaker: Breaker) -> Breaker:
    """Closed, with every counter at zero; the configuration stays."""
    zero = {"total_successes": 0, "total_failures": 0, "last_failure": None}
    return _closed(breaker, "reset").model_copy(update=zero)


def configured(breaker: Breaker, changes: dict[str, int]) -> Breaker:
    """Change the configuration and keep the state; an open one is due by the new timeout."""
    breaker = breaker.model_copy(update=changes)
    if breaker.state is not CircuitState.OPEN or breaker.forced or breaker.opened_at is None:
        return breaker
    return breaker.model_copy(update={"next_attempt_at": breaker.opened_at + _recovery(breaker)})


def _opened(breaker: Breaker, reason: str) -> Breaker:
    return _moved(
        breaker,
        CircuitState.OPEN,
        reason,
        opened_at=breaker.read_at,
        next_attempt_at=breaker.read_at + _recovery(breaker),
        probes=[],
        success_count=0,
    )


def _closed(breaker: Breaker, reason: str) -> Breaker:
    return _moved(
        breaker,
        CircuitState.CLOSED,
        reason,
        forced=False,
        failures=[],
        opened_at=None,
        next_attempt_at=None,
        probes=[],
        success_count=0,
    )


def _recovery(breaker: Breaker) -> timedelta:
    return timedelta(seconds=breaker.recovery_timeout_seconds)


def _moved(breaker: Breaker, state: CircuitState, reason: str, **changes: object) -> Breaker:
    """Enter a state anew; it is told of where it is another one."""
    changes |= {"state": state, "epoch": breaker.epoch + 1}
    if state is not breaker.state:
        told = Transition(
            from_state=breaker.state,
            to_state=state,
            reason=reason[:_REASON_LIMIT],
            timestamp=breaker.read_at,
        )
        changes["transitions"] = [*breaker.transitions, told][-KEPT_TRANSITIONS:]
    return breaker.model_copy(update=changes)


def last_change(before: Breaker, after: Breaker) -> Transition | None:
    """Return the change of state between two records of a breaker; each step makes one at most."""
    return None if before.state is after.state else after.transitions[-1]
