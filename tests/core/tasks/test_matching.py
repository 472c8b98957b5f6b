"""Who gets which task."""

from __future__ import annotations

import math

from conclave.tasks.matching import FreeAgent, Match, WaitingTask, match


def free(
    id_: int,
    *tools: str,
    running: int = 0,
    most: int = 2,
    idle: float = math.inf,
    paused: bool = False,
    able: str = "",
) -> FreeAgent:
    return FreeAgent(
        id=id_,
        tools=frozenset(tools),
        capabilities=frozenset(able.split()),
        running=running,
        open=running,
        most=most,
        idle_since=idle,
        is_paused=paused,
    )


def waits(id_: int, *tools: str, able: str = "") -> WaitingTask:
    return WaitingTask(
        id=id_, required_tools=frozenset(tools), required_capabilities=frozenset(able.split())
    )


def pairs(found: list[Match]) -> list[tuple[int, int]]:
    return [(one.task_id, one.agent_id) for one in found]


def test_the_least_loaded_wins():
    agents = [free(1, running=1), free(2, running=1, most=10), free(3, running=2, most=4)]
    assert pairs(match([waits(7)], agents)) == [(7, 2)]


def test_the_longest_idle_wins_among_equals():
    assert pairs(match([waits(7)], [free(1, idle=5), free(2, idle=60), free(3, idle=8)])) == [
        (7, 2)
    ]


def test_who_has_spent_its_day_comes_last():
    agents = [free(1, paused=True), free(2, running=1)]
    assert pairs(match([waits(7), waits(8)], agents)) == [(7, 2), (8, 1)]


def test_every_required_tool_is_needed():
    agents = [free(1, "look"), free(2, "look", "keep", running=1)]
    assert pairs(match([waits(7, "look", "keep"), waits(8, "send")], agents)) == [(7, 2)]


def test_every_required_capability_is_needed():
    agents = [free(1, able="law"), free(2, able="law tax", running=1)]
    tasks = [waits(7, able="law tax"), waits(8, able="law"), waits(9, able="art")]
    assert pairs(match(tasks, agents)) == [(7, 2), (8, 1)]


def test_nobody_gets_more_than_fits_and_the_first_come_first():
    agents = [free(1, most=2), free(2, most=1)]
    found = pairs(match([waits(n) for n in range(5)], agents))
    assert [task for task, _ in found] == [0, 1, 2]
    assert sorted(agent for _, agent in found) == [1, 1, 2]
