"""The checks of pipelines, triggers and budgets find what they are for."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from tests.chaos.ledger_checks import Row
from tests.chaos.work.budgets import BUDGETS
from tests.chaos.work.load import Told
from tests.chaos.work.pipelines import PIPELINES
from tests.chaos.work.snapshot import Snapshot
from tests.chaos.work.triggers import TRIGGERS


def _empty(**more: list[Row]) -> Snapshot:
    return Snapshot(
        *([] for _ in range(14)), received=0, sent=set(), told=Told(), runs={}, more=more
    )


def _step(run: int, number: int, type_: str, *task_ids: int, **fields: object) -> Row:
    row: Row = {"run_id": run, "step_id": number, "name": type_, "step_type": type_, "config": {}}
    return row | {"status": "completed", "attempt": 1, "task_ids": [*task_ids]} | fields


def _event(stream: str, type_: str, **data: object) -> Row:
    return {"stream": stream, "seq": 1, "type": type_, "data": data}


def _pipelines() -> Snapshot:
    """A run of every kind of step, and one that was cancelled."""
    seen = _empty(
        pipeline_runs=[
            {"id": 1, "status": "completed", "error": None, "started_at": "then"},
            {"id": 2, "status": "cancelled", "error": None, "started_at": None},
        ],
        pipeline_step_runs=[
            _step(1, 1, "task", 11),
            _step(1, 2, "wait"),
            _step(1, 3, "parallel", 12, 13, config={"tasks": [{}, {}]}),
            _step(1, 4, "task", name="never", status="skipped", attempt=0),
            _step(2, 1, "task", status="cancelled", attempt=0),
        ],
    )
    seen.tasks += [{"id": number, "workflow_run_id": 1} for number in (11, 12, 13)]
    seen.events += [
        _event("workflow-1", "workflow.started", run_id=1),
        _event("workflow-1", "workflow.completed", run_id=1),
    ]
    seen.told.note("run", 1, {"status": "completed"})
    seen.told.note("asked to cancel", 2, {})
    seen.told.note("cancelled run", 2, {})
    seen.runs["pipeline-run-1"] = ["COMPLETED"]
    return seen


def _triggers() -> Snapshot:
    """A delivery and an event, each with its firing and its task."""
    firing: Row = {"status": "success", "error": None, "made_kind": "task", "inbound_id": None}
    seen = _empty(
        triggers=[
            {"id": 1, "type": "webhook", "fire_count": 1, "config": {}},
            {"id": 2, "type": "event", "fire_count": 1, "config": {"filters": {"title": "x"}}},
        ],
        trigger_runs=[
            firing | {"id": 1, "trigger_id": 1, "made_id": 11, "inbound_id": 5},
            firing | {"id": 2, "trigger_id": 2, "made_id": 12},
        ],
        inbound_events=[{"id": 5, "delivery_id": "msg_1"}],
    )
    seen.tasks += [{"id": number, "title": "of a trigger"} for number in (11, 12)]
    seen.events += [
        _event("trigger-1", "trigger.fired", run_id=1),
        _event("trigger-2", "trigger.fired", run_id=2),
        _event("task-9", "task.completed", title="x"),
    ]
    seen.told.note("delivery", 5, {"id": "msg_1"})
    seen.runs["trigger-1-webhook-5"] = ["COMPLETED"]
    return seen


def _budgets() -> Snapshot:
    """Two calls of an agent on two days of a month, and one of the month before."""
    counter: Row = {"reserved_usd": Decimal(0)}
    seen = _empty(
        budget_counters=[
            counter
            | {"scope": "platform", "owner_id": 0, "since": date(2026, 2, 1), "spent_usd": 3},
            counter | {"scope": "agent", "owner_id": 7, "since": date(2026, 2, 2), "spent_usd": 2},
        ]
    )
    moments = [(1, (2026, 2, 1)), (2, (2026, 2, 2)), (4, (2026, 1, 31))]
    seen.calls += [
        {"agent_id": 7, "cost_usd": Decimal(cost), "created_at": datetime(*day, 23, tzinfo=UTC)}
        for cost, day in moments
    ]
    return seen


def _broken(seen: Snapshot) -> list[str]:
    tables = {"pipeline_runs": PIPELINES, "trigger_runs": TRIGGERS, "budget_counters": BUDGETS}
    [part] = [part for table, part in tables.items() if table in seen.more]
    return [broken for check in part.checks for broken in check(seen)]


def test_sound_records_pass():
    assert _broken(_pipelines()) == []
    assert _broken(_triggers()) == []
    assert _broken(_budgets()) == []


def _run(seen: Snapshot, number: int = 0) -> Row:
    return seen.more["pipeline_runs"][number]


def _steps(seen: Snapshot) -> list[Row]:
    return seen.more["pipeline_step_runs"]


OF_PIPELINES: dict[str, Callable[[Snapshot], object]] = {
    "run 1 is failed": lambda seen: _run(seen).update(status="failed"),
    "has runs that are": lambda seen: seen.runs.update({"pipeline-run-1": ["RUNNING"]}),
    "without a run in Temporal": lambda seen: seen.runs.clear(),
    "was shown as": lambda seen: seen.told.note("run", 1, {"status": "failed"}),
    "run 3 was shown": lambda seen: seen.told.note("run", 3, {"status": "completed"}),
    "told to be cancelled": lambda seen: _run(seen, 1).update(status="completed"),
    "is pending": lambda seen: _steps(seen)[1].update(status="pending"),
    "step 2 of run 1 is skipped": lambda seen: _steps(seen)[1].update(status="skipped"),
    "step 4 of run 1 is completed": lambda seen: _steps(seen)[3].update(status="completed"),
    "was tried 2 times": lambda seen: _steps(seen)[0].update(attempt=2),
    "has 1 tasks of 2": lambda seen: _steps(seen)[2].update(task_ids=[12]),
    "its steps know": lambda seen: seen.tasks.append({"id": 14, "workflow_run_id": 1}),
    "its end was told 2 times": lambda seen: seen.events.append(seen.events[1]),
    "was told 0 times": lambda seen: seen.events.pop(0),
}
OF_TRIGGERS: dict[str, Callable[[Snapshot], object]] = {
    "firing 1 is failure": lambda seen: seen.more["trigger_runs"][0].update(status="failure"),
    "was told of 2 times": lambda seen: seen.events.append(seen.events[0]),
    "which is not there": lambda seen: seen.tasks.pop(0),
    "was made by 2 firings": lambda seen: seen.more["trigger_runs"][0].update(made_id=12),
    "is of no firing": lambda seen: seen.tasks.append({"id": 13, "title": "of a trigger"}),
    "counts 2 of 1": lambda seen: seen.more["triggers"][0].update(fire_count=2),
    "has runs that are": lambda seen: seen.runs.update({"trigger-2-event-7": ["FAILED"]}),
    "was answered for": lambda seen: seen.told.note("delivery", 6, {"id": "msg_2"}),
    "fired 0 times": lambda seen: seen.more["trigger_runs"][0].update(inbound_id=None),
    "fired 1 of 2 times": lambda seen: seen.events.append(seen.events[2]),
}

OF_BUDGETS: dict[str, Callable[[Snapshot], object]] = {
    "counts 3, its calls cost 5": lambda seen: seen.calls[0].update(cost_usd=Decimal(3)),
    "since 2026-02-02 counts 2": lambda seen: seen.calls[1].update(agent_id=8),
    "reserved": lambda seen: seen.more["budget_counters"][1].update(reserved_usd=Decimal(1)),
}


@pytest.mark.parametrize("finding", OF_PIPELINES)
def test_each_breakage_of_pipelines_is_found(finding: str):
    seen = _pipelines()
    OF_PIPELINES[finding](seen)
    assert any(finding in broken for broken in _broken(seen))


@pytest.mark.parametrize("finding", OF_TRIGGERS)
def test_each_breakage_of_triggers_is_found(finding: str):
    seen = _triggers()
    OF_TRIGGERS[finding](seen)
    assert any(finding in broken for broken in _broken(seen))


@pytest.mark.parametrize("finding", OF_BUDGETS)
def test_each_breakage_of_budgets_is_found(finding: str):
    seen = _budgets()
    OF_BUDGETS[finding](seen)
    assert any(finding in broken for broken in _broken(seen))
