"""Pipelines (the API: workflows): a DAG of every kind of step, run and checked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.ledger_checks import Row
from tests.chaos.work.clients import PATIENCE_SECONDS, Json
from tests.chaos.work.load import LIVELY, POLL_SECONDS, Load, Scenario
from tests.chaos.work.parts import Part
from tests.chaos.work.script import Script
from tests.chaos.work.snapshot import Snapshot
from tests.waiting import until

_API = "/api/v1/workflows"
_WORKFLOW = {"config": {"execution": "dag", "max_concurrent_runs": 10}}
_SKIPPED = "never"
"""The step whose condition does not hold; all others are completed."""
_CANCELLED_SHARE = 0.2


async def _pipeline(load: Load) -> None:
    """Define a pipeline, run it, and wait for its end; some are cancelled on the way."""
    name = f"pipeline {load.dice.randrange(10**9)}"
    made = await load.clients.ask("POST", _API, {"name": name, **_WORKFLOW})
    path = f"{_API}/{made['id']}"
    sends = {"instructions": Script(rounds=1).instructions}
    talks = {"title": "talk", "instructions": Script().instructions}
    agent = load.agents[LIVELY]
    send = await _step(load, path, "send", {"config": sends, "agent_id": agent})
    wait = await _step(load, path, "wait", {"step_type": "wait", "config": {"wait_seconds": 1}})
    asked = {"field": "input.go", "operator": "eq", "value": True}
    ask = await _step(
        load,
        path,
        "ask",
        {"step_type": "condition", "config": {"condition": asked}, "depends_on": [send, wait]},
    )
    both = {"tasks": [talks, {**talks, "agent_id": agent}]}
    beside = {"step_type": "parallel", "config": both, "depends_on": [ask]}
    await _step(load, path, "beside", beside)
    refused = {"config": {**talks, "condition": {**asked, "value": False}}, "depends_on": [ask]}
    await _step(load, path, _SKIPPED, refused)
    run = await load.clients.ask("POST", f"{path}/run", {"input": {"go": True}})
    load.told.note("run", run["id"], run)
    if load.dice.random() < _CANCELLED_SHARE:
        await load.a_moment()
        load.told.note("asked to cancel", run["id"], {})
        cancel = f"{path}/runs/{run['id']}/cancel"
        status, _ = await load.clients.try_to("POST", cancel, refused={409})
        if status == 200:
            load.told.note("cancelled run", run["id"], {})

    async def look() -> Json | None:
        shown = await load.clients.ask("GET", f"{path}/runs/{run['id']}")
        return shown if shown["status"] not in {"queued", "running"} else None

    shown = await until(
        look, timeout=PATIENCE_SECONDS, every=POLL_SECONDS, what=f"the end of run {run['id']}"
    )
    assert shown is not None
    load.told.note("run", run["id"], shown)


async def _step(load: Load, path: str, name: str, fields: Json) -> int:
    """Add a step. One that was added though its answer was cut is there twice, and both count."""
    made = await load.clients.ask("POST", f"{path}/steps", {"name": name, **fields})
    return made["id"]


def _runs(seen: Snapshot) -> Iterator[str]:
    """Every run has ended as its steps say, and clients were told so."""
    may_be_cancelled = seen.told.made.get("asked to cancel", {})
    stored = {row["id"]: row for row in seen.more["pipeline_runs"]}
    for row in stored.values():
        is_cancelled = row["status"] == "cancelled" and row["id"] in may_be_cancelled
        if row["status"] != "completed" and not is_cancelled:
            yield f"run {row['id']} is {row['status']} ({row['error']})"
        found = seen.runs.get(f"pipeline-run-{row['id']}", [])
        if not set(found) <= {"COMPLETED", "CONTINUED_AS_NEW"}:
            yield f"pipeline-run-{row['id']} has runs that are {found}"
        if not found and not is_cancelled:
            yield f"run {row['id']} is {row['status']} without a run in Temporal"
    for run_id, shown in seen.told.made.get("run", {}).items():
        if run_id not in stored or stored[run_id]["status"] != shown["status"]:
            yield f"run {run_id} was shown as {shown['status']} and is not"
    for run_id in seen.told.made.get("cancelled run", {}):
        if run_id in stored and stored[run_id]["status"] != "cancelled":
            yield f"run {run_id} was told to be cancelled and is {stored[run_id]['status']}"


def _steps(seen: Snapshot) -> Iterator[str]:
    """Every step of a completed run happened once: one attempt, and the tasks it asked for."""
    statuses = {row["id"]: row["status"] for row in seen.more["pipeline_runs"]}
    tasks: defaultdict[int, set[int]] = defaultdict(set)
    for row in seen.tasks:
        if row["workflow_run_id"] is not None:
            tasks[row["workflow_run_id"]].add(row["id"])
    known: defaultdict[int, list[int]] = defaultdict(list)
    for step in seen.more["pipeline_step_runs"]:
        known[step["run_id"]] += step["task_ids"]
        name = f"step {step['step_id']} of run {step['run_id']}"
        if step["status"] in {"pending", "running"}:
            yield f"{name} is {step['status']}"
        if statuses[step["run_id"]] != "completed":
            continue
        is_skipped = step["name"] == _SKIPPED
        if step["status"] != ("skipped" if is_skipped else "completed"):
            yield f"{name} is {step['status']}"
        if step["attempt"] != (0 if is_skipped else 1):
            yield f"{name} was tried {step['attempt']} times"
        wanted = _tasks_of(step)
        if len(step["task_ids"]) != wanted:
            yield f"{name} has {len(step['task_ids'])} tasks of {wanted}"
    for run_id, made in tasks.items():
        if sorted(made) != sorted(known[run_id]):
            yield f"run {run_id} has the tasks {sorted(made)}, its steps know {known[run_id]}"


def _tasks_of(step: Row) -> int:
    if step["status"] == "skipped":
        return 0
    counts = {"task": 1, "parallel": len(step["config"].get("tasks", []))}
    return counts.get(step["step_type"], 0)


def _told(seen: Snapshot) -> Iterator[str]:
    """Each beginning and each end of a run was told once; a cancelled run's end is not told."""
    told: Counter[tuple[str, int]] = Counter()
    for event in seen.events:
        if event["type"].startswith("workflow."):
            told[event["type"], event["data"]["run_id"]] += 1
    for row in seen.more["pipeline_runs"]:
        ends = told["workflow.completed", row["id"]] + told["workflow.failed", row["id"]]
        if ends != (row["status"] != "cancelled"):
            yield f"run {row['id']} is {row['status']}, and its end was told {ends} times"
        begun = told["workflow.started", row["id"]]
        if begun != (row["started_at"] is not None):
            yield f"the beginning of run {row['id']} was told {begun} times"


PIPELINES = Part(
    scenarios=(Scenario("pipeline", 3, _pipeline),),
    left="SELECT id FROM pipeline_runs WHERE status IN ('queued', 'running')",
    workflows=("Pipeline",),
    tables={
        "pipeline_runs": "SELECT * FROM pipeline_runs ORDER BY id",
        "pipeline_step_runs": "SELECT * FROM pipeline_step_runs ORDER BY run_id, step_id",
    },
    checks=(_runs, _steps, _told),
)
