"""Cron expressions: five fields that croniter and Temporal read alike, and nothing else.

croniter expands an expression, and Temporal is given the expanded calendar: one reading of it.
What the two read differently is refused. Temporal wants every field to match, so an expression
that names days of the month and of the week, which cron joins by "or", is refused too.

A wall-clock time that does not exist on the day clocks go forward is left out that day. One that
comes twice on the day they go back is one firing (`firing_key`): Temporal starts it twice west of
Greenwich and once east of it. East of it, it also starts what is meant for the hour before once
more, an hour late: such a time is not the expression's (`is_meant`). Expressions that fix nothing
but the minute run on UTC where their zone's offset is whole hours: there Temporal would leave out
one of the two hours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from croniter import CroniterError, croniter

from conclave.errors import Invalid
from schema.domain.trigger_configs import CronConfig
from schema.payloads.triggers import Calendar, Span

_FIELD = "config.cron_expression"
_NAMES = ("minute", "hour", "day of the month", "month", "day of the week")
_PART = re.compile(r"(\*|[0-9]{1,2}|[A-Za-z]{3})(-([0-9]{1,2}|[A-Za-z]{3}))?(/[0-9]{1,2})?")
_NOT_IN_ORDER = re.compile(r"[0-9A-Za-z]+-[0-9A-Za-z]+")
_LISTS = {
    3: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    4: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
_NO_PLACES = frozenset({"Factory", "localtime", "posixrules"})
_LATE = timedelta(minutes=5)
"""A firing that begins later than this was missed, and is caught up with only where asked to."""


def check(config: CronConfig, now: datetime) -> None:
    """Raise `Invalid` naming the field that cannot be used."""
    zone_of(config)
    fields = _fields(config.cron_expression)
    try:
        croniter(config.cron_expression, now).get_next(datetime)
    except CroniterError:
        raise Invalid(_FIELD, "never comes true: there is no such day") from None
    if fields[2] and fields[4]:
        raise Invalid(
            _FIELD, "names days of the month and of the week together: use one of the two"
        )


def zone_of(config: CronConfig) -> ZoneInfo:
    """Return the zone. Raises `Invalid`."""
    name = config.timezone
    if name in _NO_PLACES or name not in available_timezones():
        raise Invalid("config.timezone", f"is no IANA time zone: {name[:64]!r}")
    return ZoneInfo(name)


def calendar_of(config: CronConfig, now: datetime) -> tuple[Calendar, str]:
    """Return the expanded calendar, and the zone it is to be read in. Raises `Invalid`."""
    fields = _fields(config.cron_expression)
    minutes, hours, days, months, week = (_spans(values) for values in fields)
    calendar = Calendar(
        minutes=minutes, hours=hours, days_of_month=days, months=months, days_of_week=week
    )
    zone = zone_of(config)
    on_utc = not any(fields[1:]) and _is_whole_hours(zone, now)
    return calendar, "UTC" if on_utc else config.timezone


def firing_key(config: CronConfig, nominal: datetime) -> str:
    """Return what makes a firing one: its instant, or its wall-clock time where an hour is named.

    The zone stands in it, so that a trigger that moves to another one still fires there.
    """
    if not _fields(config.cron_expression)[1]:
        return nominal.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    local = nominal.astimezone(zone_of(config))
    return f"{local:%Y-%m-%dT%H:%M}[{config.timezone}]"


def is_meant(config: CronConfig, nominal: datetime) -> bool:
    """Whether the expression names this time."""
    local = nominal.astimezone(zone_of(config))
    shown = (local.minute, local.hour, local.day, local.month, local.isoweekday() % 7)
    fields = _fields(config.cron_expression)
    return all(not values or one in values for values, one in zip(fields, shown, strict=True))


def is_late(nominal: datetime, now: datetime, jitter_seconds: int) -> bool:
    """Whether a firing begins so late that it was missed."""
    return now - nominal > _LATE + timedelta(seconds=jitter_seconds)


def _fields(expression: str) -> list[list[int]]:
    """Return the values of each field, none for `*`. Raises `Invalid`."""
    parts = expression.split()
    if len(parts) != 5:
        raise Invalid(_FIELD, f"has {len(parts)} fields: five are wanted")
    for place, part in enumerate(parts):
        _check_part(place, part)
    try:
        expanded, nth = croniter.expand(expression)
    except (CroniterError, ValueError, KeyError):
        raise Invalid(_FIELD, "cannot be read: a value is out of range or unknown") from None
    if nth:
        raise Invalid(_FIELD, "numbers a weekday of the month, which cannot be scheduled")
    return [[] if "*" in values else sorted({int(one) for one in values}) for values in expanded]


def _check_part(place: int, part: str) -> None:
    for item in part.split(","):
        if not _PART.fullmatch(item):
            hint = " (L, W, # and ? are not taken)" if re.search(r"[LlWw#?]", item) else ""
            raise Invalid(_FIELD, f"has a {_NAMES[place]} that cannot be read: {item!r}{hint}")
        span = _NOT_IN_ORDER.match(item)
        if span is not None:
            first, last = (_number(place, end) for end in span.group().split("-"))
            if first > last:
                raise Invalid(_FIELD, f"has a {_NAMES[place]} that ends before it begins: {item!r}")


def _number(place: int, text: str) -> int:
    if text.isdecimal():
        return int(text)
    names = _LISTS.get(place, [])
    if text.lower() not in names:
        raise Invalid(_FIELD, f"has a {_NAMES[place]} that cannot be read: {text!r}")
    return names.index(text.lower()) + (1 if place == 3 else 0)


def _spans(values: Sequence[int]) -> list[Span]:
    spans: list[Span] = []
    for value in values:
        if spans and spans[-1].end == value - 1:
            spans[-1] = Span(start=spans[-1].start, end=value)
        else:
            spans.append(Span(start=value, end=value))
    return spans


def _is_whole_hours(zone: ZoneInfo, now: datetime) -> bool:
    moments = [datetime(now.year, month, 1, tzinfo=zone) for month in (1, 4, 7, 10)]
    offsets = [moment.utcoffset() or timedelta() for moment in moments]
    return all(offset % timedelta(hours=1) == timedelta() for offset in offsets)
