"""What crosses the boundary of the workflows of triggers: ids, states and rhythms."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel


class TriggerInput(BaseModel):
    """One firing. `run_id` is the stored one; None for a schedule's, which is stored when it
    begins, by the nominal time in the workflow's id."""

    trigger_id: int
    run_id: int | None = None


class ClaimInput(BaseModel):
    """Begin a firing, or find out that it is over. `nominal` is the time a schedule meant."""

    trigger_id: int
    run_id: int | None = None
    nominal: datetime | None = None


class ClaimResult(BaseModel):
    """The firing that is to be carried out; None where there is nothing to do."""

    run_id: int | None
    calls_out: bool = False
    """Its action is a call to somebody else's server."""


class ActInput(BaseModel):
    """Carry a firing out."""

    run_id: int


class FiringOutcome(StrEnum):
    """How a firing ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    SKIPPED = "skipped"
    NOTHING = "nothing"
    """The trigger is gone or inactive: nothing was to be done."""


class FiringResult(BaseModel):
    """How a firing ended."""

    outcome: FiringOutcome


class SettleInput(BaseModel):
    """Store that a firing failed; `reason` is a public sentence."""

    run_id: int
    reason: str


class Span(BaseModel):
    """From `start` to `end`, both included."""

    start: int
    end: int


class Calendar(BaseModel):
    """When a cron expression means; an empty list: always."""

    minutes: list[Span]
    hours: list[Span]
    days_of_month: list[Span]
    months: list[Span]
    days_of_week: list[Span]
    """0 is Sunday."""


class TriggerSchedule(BaseModel):
    """A trigger's schedule as the record wants it: a calendar or an interval."""

    trigger_id: int
    calendar: Calendar | None = None
    time_zone: str = "UTC"
    every_seconds: int | None = None
    offset_seconds: int = 0
    start_at: datetime | None = None
    jitter_seconds: int = 0
    catch_up: bool = False
    is_paused: bool = False


class CheckInput(BaseModel):
    """Look at every threshold with this rhythm."""

    every_seconds: int


class CheckResult(BaseModel):
    """How many thresholds were looked at, and how many were crossed."""

    checked: int
    crossed: int
