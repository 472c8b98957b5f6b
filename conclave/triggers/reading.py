"""Reading what a client says of a trigger: by its shape first, then by what a shape cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from conclave.errors import Invalid
from conclave.triggers import cron
from schema.domain.base import Shape
from schema.domain.event_catalogue import is_pattern
from schema.domain.trigger_configs import (
    CallWebhookConfig,
    CreateTaskConfig,
    CronConfig,
    EventConfig,
    ExecuteWorkflowConfig,
    IntervalConfig,
    SendNotificationConfig,
    StartConversationConfig,
    ThresholdConfig,
    WebhookConfig,
)
from schema.domain.triggers import ActionType, TriggerType

CONFIGS: Mapping[TriggerType, type[Shape]] = {
    TriggerType.CRON: CronConfig,
    TriggerType.INTERVAL: IntervalConfig,
    TriggerType.EVENT: EventConfig,
    TriggerType.WEBHOOK: WebhookConfig,
    TriggerType.THRESHOLD: ThresholdConfig,
}
ACTIONS: Mapping[ActionType, type[Shape]] = {
    ActionType.CREATE_TASK: CreateTaskConfig,
    ActionType.EXECUTE_WORKFLOW: ExecuteWorkflowConfig,
    ActionType.SEND_NOTIFICATION: SendNotificationConfig,
    ActionType.CALL_WEBHOOK: CallWebhookConfig,
    ActionType.START_CONVERSATION: StartConversationConfig,
}
BUILT_IN = ("github", "gitlab", "jira", "plane")
"""Sources whose addresses no trigger may take; each has `<source>-default` too."""
_NOT_THEIRS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_Config = TypeVar("_Config", bound=Shape)


def is_built_in(slug: str) -> bool:
    """Whether the address belongs to a built-in source."""
    return slug.removesuffix("-default") in BUILT_IN


def read_config(kind: TriggerType, config: Mapping[str, JsonValue], now: datetime) -> Shape:
    """Return the config in its type's shape. Raises `Invalid` naming the field."""
    found = _read(CONFIGS[kind], config, "config")
    if isinstance(found, CronConfig):
        cron.check(found, now)
    elif isinstance(found, EventConfig) and not is_pattern(found.event_type):
        raise Invalid("config.event_type", f"is no event: {found.event_type!r}")
    elif isinstance(found, WebhookConfig) and found.slug is not None and is_built_in(found.slug):
        raise Invalid("config.slug", f"{found.slug!r} is the address of a built-in source")
    return found


def read_action(kind: ActionType, config: Mapping[str, JsonValue]) -> Shape:
    """Return the action's config in its shape. Raises `Invalid` naming the field."""
    found = _read(ACTIONS[kind], config, "action.config")
    if isinstance(found, StartConversationConfig) and not (found.agent_ids or found.circle_name):
        raise Invalid("action.config.agent_ids", "name agents, or a circle")
    if isinstance(found, CallWebhookConfig):
        _check_call(found)
    return found


def _check_call(found: CallWebhookConfig) -> None:
    if not found.url.startswith(("http://", "https://", "{{")):
        raise Invalid("action.config.url", "must begin with http:// or https://")
    lowered = [name.lower() for name in found.headers]
    if len(set(lowered)) < len(lowered):
        raise Invalid("action.config.headers", "name one header twice")
    for name in _NOT_THEIRS:
        if name in lowered:
            raise Invalid("action.config.headers", f"must not set {name}")


def _read(shape: type[_Config], given: Mapping[str, JsonValue], place: str) -> _Config:
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        flaw = error.errors(include_input=False, include_url=False)[0]
        field = ".".join([place, *(str(part) for part in flaw["loc"])])
        raise Invalid(field, flaw["msg"], type=flaw["type"]) from None
