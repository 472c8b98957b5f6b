"""Conditions: one value of a run's context against another. Nothing is evaluated as code.

The context is `{input, trigger_data, steps: {"<step id>": {status, output, error, duration_ms}}}`.
Values of different types never match, whatever the operator: also `neq` is false between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import Field, JsonValue

from schema.domain.base import Shape

_PLACE = re.compile(r"[0-9]{1,9}")


class Operator(StrEnum):
    """How two values are compared."""

    EQ = "eq"
    NEQ = "neq"
    GT = "gt"
    LT = "lt"
    GTE = "gte"
    LTE = "lte"
    CONTAINS = "contains"
    IN = "in"
    EXISTS = "exists"


class Condition(Shape):
    """`field` is a dotted path into the context; numbers in it are places in lists."""

    field: Annotated[str, Field(min_length=1, max_length=500)]
    operator: Operator
    value: JsonValue = None


class Found(NamedTuple):
    """What stands at a path."""

    exists: bool
    value: JsonValue = None


def find(context: Mapping[str, JsonValue], path: str) -> Found:
    """Return what stands at a dotted path."""
    value: JsonValue = dict(context)
    for part in path.strip().split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and _PLACE.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return Found(False)
    return Found(True, value)


def holds(condition: Condition, context: Mapping[str, JsonValue]) -> bool:
    """Whether a condition is true; one about what is not there is false, but for `exists`."""
    found = find(context, condition.field)
    if condition.operator is Operator.EXISTS:
        there = found.exists and found.value is not None
        return there is not (condition.value is False)
    if not found.exists:
        return False
    return _TESTS[condition.operator](found.value, condition.value)


def _kind(value: JsonValue) -> str:
    """Return JSON's name of a type: to Python a bool is an int, to JSON it is not."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def same(one: JsonValue, other: JsonValue) -> bool:
    """Whether two values are equal and of the same types at every depth."""
    if _kind(one) != _kind(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def _differ(one: JsonValue, other: JsonValue) -> bool:
    return _kind(one) == _kind(other) and not same(one, other)


def _contains(one: JsonValue, other: JsonValue) -> bool:
    if isinstance(one, str):
        return isinstance(other, str) and other in one
    if isinstance(one, list):
        return any(same(item, other) for item in one)
    return isinstance(one, dict) and isinstance(other, str) and other in one


def _ordered(test: Callable[[int], bool]) -> Callable[[JsonValue, JsonValue], bool]:
    """Return a test of how two numbers, or two texts, stand to each other: -1, 0, 1."""

    def ordered(one: JsonValue, other: JsonValue) -> bool:
        if isinstance(one, str) and isinstance(other, str):
            return test((one > other) - (one < other))
        if isinstance(one, bool) or isinstance(other, bool):
            return False
        if isinstance(one, int | float) and isinstance(other, int | float):
            return test((one > other) - (one < other))
        return False

    return ordered


_TESTS: Mapping[Operator, Callable[[JsonValue, JsonValue], bool]] = {
    Operator.EQ: same,
    Operator.NEQ: _differ,
    Operator.GT: _ordered(lambda order: order > 0),
    Operator.LT: _ordered(lambda order: order < 0),
    Operator.GTE: _ordered(lambda order: order >= 0),
    Operator.LTE: _ordered(lambda order: order <= 0),
    Operator.CONTAINS: _contains,
    Operator.IN: lambda one, other: (
        _contains(other, one) if isinstance(other, list | str) else False
    ),
}
