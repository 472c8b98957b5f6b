"""Triggers as this dialect writes them. The reference's names win over the repo's, which are
accepted too; an action takes its config beside its type as well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias, cast

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    model_validator,
)

from api.platform.schemas.fields import Name, Timestamp, refuse_null
from conclave.triggers.commands import (
    CreateTrigger,
    GivenAction,
    MadeTrigger,
    TriggerFilter,
    UpdateTrigger,
)
from schema.domain.triggers import (
    ActionType,
    RunStatus,
    Trigger,
    TriggerDetail,
    TriggerRun,
    TriggerStats,
    TriggerType,
)

_LEGACY: Final = {"schedule": "cron"}


def _type(value: object) -> object:
    return _LEGACY.get(value, value) if isinstance(value, str) else value


Type: TypeAlias = Annotated[
    TriggerType,
    BeforeValidator(_type),
    Field(validation_alias=AliasChoices("type", "trigger_type")),
]
Status: TypeAlias = Literal["success", "failure", "skipped"]


class ActionIn(BaseModel):
    """What is to be done."""

    type: Annotated[ActionType, Field(validation_alias=AliasChoices("type", "action_type"))]
    config: Annotated[
        dict[str, JsonValue], Field(validation_alias=AliasChoices("config", "action_config"))
    ] = {}

    @model_validator(mode="before")
    @classmethod
    def gather(cls, given: object) -> object:
        """Take what stands beside the type for the config."""
        if not isinstance(given, Mapping):
            return given
        fields = cast("Mapping[str, object]", given)
        if "config" in fields or "action_config" in fields:
            return fields
        kinds = ("type", "action_type")
        beside = {name: value for name, value in fields.items() if name not in kinds}
        return {**{name: fields[name] for name in kinds if name in fields}, "config": beside}

    def to_command(self) -> GivenAction:
        """Return it in the core's words."""
        return GivenAction(type=self.type, config=self.config)


def _joined(given: object) -> object:
    """Join the repo's action_type and action_config to the action they stand for."""
    if not isinstance(given, Mapping):
        return given
    fields = dict(cast("Mapping[str, object]", given))
    if "action" not in fields and isinstance(fields.get("action_type"), str):
        fields["action"] = {
            "type": fields["action_type"],
            "config": fields.get("action_config", {}),
        }
    return fields


class TriggerIn(BaseModel):
    """A new trigger."""

    name: Name
    type: Type
    config: dict[str, JsonValue]
    action: ActionIn
    is_active: Annotated[bool, Field(validation_alias=AliasChoices("is_active", "enabled"))] = True

    @model_validator(mode="before")
    @classmethod
    def join(cls, given: object) -> object:
        """Accept the repo's names of the action."""
        return _joined(given)

    def to_command(self) -> CreateTrigger:
        """Return it in the core's words."""
        return CreateTrigger(
            name=self.name,
            type=self.type,
            config=self.config,
            action=self.action.to_command(),
            is_active=self.is_active,
        )


class TriggerPatch(BaseModel):
    """What is to change. A secret that is left out or sent back masked stays as it is."""

    name: Annotated[Name | None, BeforeValidator(refuse_null)] = None
    type: Annotated[
        TriggerType | None,
        BeforeValidator(refuse_null),
        BeforeValidator(_type),
        Field(validation_alias=AliasChoices("type", "trigger_type")),
    ] = None
    config: Annotated[dict[str, JsonValue] | None, BeforeValidator(refuse_null)] = None
    action: Annotated[ActionIn | None, BeforeValidator(refuse_null)] = None
    is_active: Annotated[
        bool | None,
        BeforeValidator(refuse_null),
        Field(validation_alias=AliasChoices("is_active", "enabled")),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def join(cls, given: object) -> object:
        """Accept the repo's names of the action."""
        return _joined(given)

    def to_command(self) -> UpdateTrigger:
        """Return it in the core's words."""
        return UpdateTrigger(
            name=self.name,
            type=self.type,
            config=self.config,
            action=None if self.action is None else self.action.to_command(),
            is_active=self.is_active,
        )


class ToggleIn(BaseModel):
    """Active or not; without it the other of what it is."""

    enabled: Annotated[
        bool | None, Field(validation_alias=AliasChoices("enabled", "is_active"))
    ] = None


class FiringIn(BaseModel):
    """What is to have happened: the action's `event`."""

    event_data: Annotated[
        dict[str, JsonValue], Field(validation_alias=AliasChoices("event_data", "event"))
    ] = {}


class TriggerQuery(BaseModel):
    """Which triggers are listed."""

    type: Annotated[TriggerType | None, BeforeValidator(_type)] = None
    is_active: bool | None = None

    def to_filter(self) -> TriggerFilter:
        """Return it in the core's words."""
        return TriggerFilter(type=self.type, is_active=self.is_active)


class ActionOut(BaseModel):
    """What is done; header values and secrets are masked."""

    type: ActionType
    config: dict[str, JsonValue]


class TriggerOut(BaseModel):
    """A trigger."""

    id: int
    name: str
    type: TriggerType
    config: dict[str, JsonValue]
    action: ActionOut
    is_active: bool
    agent_name: str | None
    fire_count: int
    last_fired_at: Timestamp | None
    last_status: Status | None
    next_fire_at: Timestamp | None
    url: str | None = None
    """Where webhooks are sent to: a path of this server."""
    created_by: int | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, trigger: Trigger, next_fire_at: datetime | None = None) -> TriggerOut:
        """Return a trigger in this dialect's shape."""
        return cls.model_validate(_fields(trigger, next_fire_at))


class TriggerMadeOut(TriggerOut):
    """A new trigger, with its secret this once."""

    secret: str | None = None

    @classmethod
    def of(cls, made: MadeTrigger, next_fire_at: datetime | None) -> TriggerMadeOut:
        """Return a new trigger in this dialect's shape."""
        return cls.model_validate({**_fields(made.trigger, next_fire_at), "secret": made.secret})


class TriggerRunOut(BaseModel):
    """A firing that has ended."""

    id: int
    trigger_id: int
    status: Status
    event_data: dict[str, JsonValue]
    result: dict[str, JsonValue]
    error: str | None
    duration_ms: float
    created_at: Timestamp

    @classmethod
    def from_domain(cls, run: TriggerRun) -> TriggerRunOut:
        """Return a firing in this dialect's shape."""
        return cls.model_validate(run.model_dump())


class TriggerStatsOut(BaseModel):
    """What became of the firings."""

    total_executions: int
    success_rate: float
    """Percent of those not skipped."""
    avg_duration_ms: float
    execution_counts: dict[str, int]
    recent_executions: list[TriggerRunOut]

    @classmethod
    def of(cls, stats: TriggerStats, recent: list[TriggerRun]) -> TriggerStatsOut:
        """Return them in this dialect's shape."""
        runs = [TriggerRunOut.from_domain(run) for run in recent]
        return cls.model_validate({**stats.model_dump(), "recent_executions": runs})


class TriggerDetailOut(TriggerOut):
    """A trigger with its history in short."""

    stats: TriggerStatsOut

    @classmethod
    def of(cls, detail: TriggerDetail) -> TriggerDetailOut:
        """Return it in this dialect's shape."""
        fields = _fields(detail.trigger, detail.next_fire_at)
        stats = TriggerStatsOut.of(detail.stats, detail.recent)
        return cls.model_validate({**fields, "stats": stats})


class FiringOut(BaseModel):
    """A firing that was begun: its end stands in the history."""

    run_id: int
    trigger_id: int
    status: Literal["accepted"] = "accepted"


def _fields(trigger: Trigger, next_fire_at: datetime | None) -> dict[str, object]:
    config = dict(trigger.config)
    if trigger.slug is not None:
        config["slug"] = trigger.slug
    return {
        **trigger.model_dump(),
        "config": config,
        "url": None if trigger.slug is None else f"/webhook/{trigger.slug}",
        "next_fire_at": next_fire_at,
    }


def status_of(status: Status | None) -> RunStatus | None:
    """Return a status in the core's words."""
    return None if status is None else RunStatus(status)
