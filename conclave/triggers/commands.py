"""What can be asked of triggers."""

from __future__ import annotations

from pydantic import JsonValue

from schema.domain.base import Shape
from schema.domain.triggers import ActionType, RunStatus, Trigger, TriggerType


class TriggerFilter(Shape):
    """Which triggers are listed; None: any."""

    type: TriggerType | None = None
    is_active: bool | None = None


class GivenAction(Shape):
    """An action as a client gave it, not looked at yet."""

    type: ActionType
    config: dict[str, JsonValue]


class CreateTrigger(Shape):
    """A new trigger."""

    name: str
    type: TriggerType
    config: dict[str, JsonValue]
    action: GivenAction
    is_active: bool = True


class UpdateTrigger(Shape):
    """What is to change; None: unchanged."""

    name: str | None = None
    type: TriggerType | None = None
    config: dict[str, JsonValue] | None = None
    action: GivenAction | None = None
    is_active: bool | None = None


class MadeTrigger(Shape):
    """A stored trigger, with the secret that is shown this once."""

    trigger: Trigger
    secret: str | None


class NewFiring(Shape):
    """A firing about to be stored with what caused it."""

    trigger_id: int
    firing_key: str
    event_data: dict[str, JsonValue]
    inbound_id: int | None = None
    chain_depth: int = 0
    status: RunStatus = RunStatus.PENDING
    error: str | None = None
