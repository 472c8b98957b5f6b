"""Conditions and templates: looked up, compared, never evaluated."""

from __future__ import annotations

import itertools
import operator
import random
from typing import Any

import pytest

from conclave.pipelines.conditions import Condition, Operator, find, holds, same
from conclave.pipelines.configs import StepConfig
from conclave.pipelines.effects import met
from conclave.pipelines.templates import fill, fill_text, steps_named

CONTEXT: dict[str, Any] = {
    "input": {"n": 5, "f": 5.0, "yes": True, "no": None, "name": "Ada", "list": [1, {"a": "x"}],
              "empty": "", "map": {"k": 1}, "10": "ten"},
    "steps": {"12": {"status": "completed", "output": {"y": "deep {{input.name}}"}, "error": None}},
}  # fmt: skip
CONTEXT["trigger_data"] = CONTEXT["input"]


def check(field: str, name: str, value: Any = None) -> bool:
    return holds(Condition(field=field, operator=Operator(name), value=value), CONTEXT)


@pytest.mark.parametrize(
    ("field", "name", "value", "expected"),
    [
        ("input.n", "eq", 5, True), ("input.n", "eq", 5.0, True), ("input.n", "eq", "5", False),
        ("input.yes", "eq", 1, False), ("input.yes", "eq", True, True),
        ("input.n", "neq", 6, True), ("input.n", "neq", "5", False), ("input.n", "neq", 5, False),
        ("input.no", "eq", None, True), ("input.no", "neq", 1, False),
        ("input.n", "gt", 4, True), ("input.n", "gt", 5, False), ("input.n", "gte", 5, True),
        ("input.n", "lt", 6, True), ("input.n", "lte", 4, False), ("input.n", "gt", "4", False),
        ("input.yes", "gt", 0, False), ("input.name", "gt", "A", True),
        ("input.list", "gt", [0], False), ("input.no", "lte", None, False),
        ("input.name", "contains", "da", True), ("input.name", "contains", 1, False),
        ("input.list", "contains", 1, True), ("input.list", "contains", True, False),
        ("input.list", "contains", {"a": "x"}, True), ("input.map", "contains", "k", True),
        ("input.map", "contains", 1, False), ("input.n", "contains", 5, False),
        ("input.n", "in", [1, 5], True), ("input.n", "in", ["5"], False),
        ("input.name", "in", "Ada Bob", True), ("input.n", "in", "5", False),
        ("input.n", "in", {"5": 1}, False), ("input.n", "in", None, False),
        ("input.n", "exists", None, True), ("input.n", "exists", True, True),
        ("input.n", "exists", False, False), ("input.x", "exists", None, False),
        ("input.x", "exists", False, True), ("input.no", "exists", None, False),
        ("input.empty", "exists", None, True), ("input.x", "eq", None, False),
        ("input.x", "neq", 1, False), ("input.list.1.a", "eq", "x", True),
        ("input.list.2", "exists", None, False), ("input.list.-1", "exists", None, False),
        ("input.10", "eq", "ten", True), ("input.name.0", "exists", None, False),
        ("steps.12.status", "eq", "completed", True), ("steps.12.output.y", "exists", None, True),
        ("trigger_data.n", "eq", 5, True),
        ("", "exists", None, False), ("..", "exists", None, False),
        ("input.__class__", "exists", None, False),
        ("input.list.99999999999", "exists", None, False),
        ("input.list.²", "exists", None, False),
    ],
)  # fmt: skip
def test_a_condition(field: str, name: str, value: Any, expected: bool):
    if field:
        assert check(field, name, value) is expected
    assert find(CONTEXT, field).exists in (True, False)


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2.5, 1.0, 10**30, "", "a", "1", [], [1], [True], ["1"], {},
    {"a": 1}, {"a": True}, {"a": [None]},
]  # fmt: skip
KINDS: dict[type, str] = {bool: "boolean", int: "number", float: "number"}


@pytest.mark.parametrize("name", [one.value for one in Operator if one is not Operator.EXISTS])
def test_values_of_different_types_never_match(name: str):
    for one, other in itertools.product(VALUES, VALUES):
        kinds = [KINDS.get(type(value), type(value).__name__) for value in (one, other)]
        outcome = holds(Condition(field="v", operator=Operator(name), value=other), {"v": one})
        assert outcome in (True, False)
        if kinds[0] != kinds[1] and name not in ("contains", "in"):
            assert outcome is False, (one, name, other)


def test_order_and_equality_agree_with_each_other():
    for one, other in itertools.product([-1, 0, 0.0, 1, 2.5, 10**30], repeat=2):
        for name in ("eq", "gt", "lt", "gte", "lte"):
            expected = getattr(operator, {"gte": "ge", "lte": "le"}.get(name, name))(one, other)
            condition = Condition(field="v", operator=Operator(name), value=other)
            assert holds(condition, {"v": one}) is expected
    for one, other in itertools.product(VALUES, repeat=2):
        assert same(one, other) is same(other, one)
        kinds = [KINDS.get(type(value), type(value).__name__) for value in (one, other)]
        equal, differ = (
            holds(Condition(field="v", operator=kind, value=other), {"v": one})
            for kind in (Operator.EQ, Operator.NEQ)
        )
        assert (equal is not differ) is (kinds[0] == kinds[1])


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Hi {{input.name}}!", "Hi Ada!"), ("{{ input.n }}/{{input.f}}", "5/5.0"),
        ("{{input.yes}} {{input.list}}", 'true [1, {"a": "x"}]'), ("[{{input.no}}]", "[]"),
        ("[{{input.nothing.at.all}}]", "[]"), ("{{steps.12.output.y}}", "deep {{input.name}}"),
        ("{{}} {{ }} {input.n} {{input.n}", "{{}} {{ }} {input.n} {{input.n}"),
        ("{{1+1}}{{input.n.__class__}}{{__import__('os')}}", ""),
        ("{0.__class__} %s $HOME", "{0.__class__} %s $HOME"),
        ("{{{{input.name}}}}", "{{Ada}}"),
    ],
)  # fmt: skip
def test_a_template(text: str, filled: str):
    assert fill_text(text, CONTEXT) == filled


def test_a_string_that_is_one_template_becomes_the_value_itself():
    assert fill("{{input.n}}", CONTEXT) == 5
    assert fill(" {{input.list}} ", CONTEXT) == [1, {"a": "x"}]
    assert fill(["{{input.yes}}", {"k": "n {{input.n}}"}, 7], CONTEXT) == [True, {"k": "n 5"}, 7]
    condition = {"field": "input.n", "operator": "lte", "value": "{{input.f}}"}
    assert met(StepConfig.model_validate({"condition": condition}), CONTEXT)


def test_what_is_filled_in_is_never_looked_at_again():
    chance = random.Random(7)
    pieces = ["{{input.a}}", "{{input.b}}", "{", "}", "{{", "}}", "x", " ", "input.a"]
    for _ in range(300):
        a, b, text = ("".join(chance.choices(pieces, k=6)) for _ in range(3))
        filled = fill_text(text, {"input": {"a": a, "b": b}})
        marked = fill_text(text, {"input": {"a": "\1", "b": "\2"}})
        assert filled == marked.replace("\1", "\3").replace("\2", b).replace("\3", a)


def test_the_steps_a_config_looks_at_are_found():
    config: dict[str, Any] = {
        "condition": {"field": "steps.7.status", "operator": "eq", "value": "{{steps.8.error}}"},
        "tasks": [{"title": "{{ steps.912.output.x }}"}],
        "body": "mysteps.4.x",
    }
    assert steps_named(config) == {7, 8, 912}
