"""Changes of breakers as events tell of them."""

from __future__ import annotations

from conclave.breakers.machine import last_change
from schema.domain.breakers import Breaker, CircuitState
from schema.domain.events import ADMIN_OWNER, EventDraft, EventType

_STREAM = "circuits"


def events_of(before: Breaker, after: Breaker) -> list[EventDraft]:
    """Return what a change of state is told by; nothing where the state is the same.

    An outage is alerted once, when the breaker opens: not again for every probe that fails.
    """
    change = last_change(before, after)
    if change is None:
        return []
    changed = EventDraft(
        stream=_STREAM,
        type=EventType.CIRCUIT_CHANGED,
        data={
            "name": after.name,
            "from_state": change.from_state.value,
            "to_state": change.to_state.value,
            "reason": change.reason,
        },
        owner=ADMIN_OWNER,
    )
    is_opened = change.to_state is CircuitState.OPEN
    if not is_opened or (change.from_state is CircuitState.HALF_OPEN and not after.forced):
        return [changed]
    alert = EventDraft(
        stream=_STREAM,
        type=EventType.SYSTEM_ALERT,
        data={
            "level": "error",
            "code": "circuit_open",
            "message": f"The circuit of {after.name} is open: {change.reason}",
            "source": after.name,
            "at": change.timestamp.isoformat().replace("+00:00", "Z"),
        },
        owner=ADMIN_OWNER,
    )
    return [changed, alert]
