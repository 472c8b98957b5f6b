"""What triggers are set up with: one shape a type, one an action (platform.md, section 19).

Their fields say what a client may send; `conclave.triggers` adds what needs more than a look.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AliasChoices, Field, JsonValue, StringConstraints

from schema.domain.base import Shape
from schema.domain.notifications import Severity
from schema.domain.tasks import TaskPriority
from schema.domain.triggers import Metric, Operator

MASK: Final = "***"
"""Stands where a secret is kept elsewhere; sent back, it keeps what is stored."""
MAX_ID: Final = 2**63 - 1
_Id = Annotated[int, Field(ge=1, le=MAX_ID)]
_Text = Annotated[str, StringConstraints(max_length=100_000)]
_Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
_Jitter = Annotated[int, Field(ge=0, le=3600)]
_Secret = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("beyond the years 1 to 9999 in UTC") from None


class CronConfig(Shape):
    """Times of a calendar; `catch_up`: one firing for those missed while nothing ran."""

    cron_expression: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=9, max_length=255),
        Field(validation_alias=AliasChoices("cron_expression", "schedule", "cron", "expression")),
    ]
    timezone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "UTC"
    catch_up: bool = False
    jitter_seconds: _Jitter = 0


class IntervalConfig(Shape):
    """Every so many seconds, counted from `start_at` or from when it was made."""

    every_seconds: Annotated[int, Field(ge=10, le=31_536_000)]
    start_at: Annotated[datetime, AfterValidator(_in_utc)] | None = None
    jitter_seconds: _Jitter = 0


class EventConfig(Shape):
    """An event of the catalogue, or a prefix with a final `*`; filters are all to hold."""

    event_type: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=64),
        Field(validation_alias=AliasChoices("event_type", "event")),
    ]
    filters: Annotated[dict[str, JsonValue], Field(max_length=50)] = {}


class WebhookConfig(Shape):
    """Something that comes in at `POST /webhook/{slug}`."""

    slug: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{3,64}$")] | None = None
    secret: _Secret | None = Field(default=None, repr=False)
    require_signature: bool = True


class ThresholdConfig(Shape):
    """A metric that comes to stand so to a threshold, for so long."""

    metric: Metric
    operator: Operator = Operator.GT
    threshold: Annotated[float, Field(allow_inf_nan=False)]
    for_seconds: Annotated[int, Field(ge=0, le=604_800)] = 0
    check_every_seconds: Annotated[int, Field(ge=10, le=86_400)] = 60


class CreateTaskConfig(Shape):
    """A task for an agent, or for whoever can."""

    title: _Title
    description: _Text | None = None
    instructions: _Text | None = None
    priority: TaskPriority = TaskPriority.MEDIUM
    agent_id: _Id | None = None
    required_tools: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=128)]], Field(max_length=50)
    ] = []
    deadline_minutes: Annotated[int, Field(ge=1, le=5_256_000)] | None = None


class ExecuteWorkflowConfig(Shape):
    """A run of a pipeline."""

    workflow_id: _Id
    input: dict[str, JsonValue] = {}


class SendNotificationConfig(Shape):
    """A notification in the product, or on a channel."""

    channel: Literal["in_app", "email", "slack", "telegram", "webhook"] = "in_app"
    channel_id: _Id | None = None
    title: _Title
    message: _Text = ""
    severity: Severity = Severity.INFO
    user_id: _Id | None = None


class CallWebhookConfig(Shape):
    """A request to somebody's server. `body` None: what made the trigger fire."""

    url: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2048)]
    method: Literal["POST", "PUT", "GET"] = "POST"
    headers: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=128)],
            Annotated[str, StringConstraints(max_length=4096)],
        ],
        Field(max_length=20, repr=False),
    ] = {}
    body: JsonValue = None
    secret: _Secret | None = Field(default=None, repr=False)


class StartConversationConfig(Shape):
    """A conversation of agents, or of a circle's members."""

    topic: _Title
    agent_ids: Annotated[list[_Id], Field(max_length=50)] = []
    circle_name: Annotated[
        str | None,
        Field(validation_alias=AliasChoices("circle_name", "circle"), max_length=100),
    ] = None
    prompt: _Text | None = None
    max_turns: Annotated[int, Field(ge=1, le=200)] = 20
