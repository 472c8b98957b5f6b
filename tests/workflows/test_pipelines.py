"""Pipelines on a real Temporal: what runs when, what a failure does, what is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata

from conclave.agents.commands import CreateAgent
from conclave.errors import Conflict, Missing, Unavailable
from schema.domain.notifications import Severity
from schema.domain.pipelines import RunStatus, StepStatus, StepType
from schema.domain.providers import ProviderName
from schema.domain.tasks import Task, TaskStatus
from schema.payloads import names
from schema.payloads.pipelines import PipelineState
from tests.conftest import Apart
from tests.fakes.notifier import Told
from tests.harness.errands import lose
from tests.harness.pipelines import Mill, Spec, barrier, notify, running_mill, task, wait, when
from tests.harness.runs import chain
from tests.histories.files import opened_payloads, raw
from tests.waiting import until
from workflows.engine import TemporalEngine

COMPLETED, FAILED, SKIPPED = StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED
DAG = {"execution": "dag"}


@pytest.fixture(scope="module")
async def running(apart: Apart) -> AsyncIterator[Mill]:
    async with running_mill(apart.postgres_url, apart.temporal_address) as mill, mill.worker():
        yield mill


@pytest.fixture
async def mill(running: Mill) -> AsyncIterator[Mill]:
    running.tasks.gone_agents.clear()
    running.tasks.refuses = None
    running.notifier.told.clear()
    yield running
    await until(lambda: running.core.errands.is_idle, what="the errands")


async def end(mill: Mill, task_id: int, status: TaskStatus = TaskStatus.COMPLETED, **more: Any):
    await mill.tasks.end(mill.core.db, task_id, status, **more)


async def test_steps_run_one_after_the_other_and_hand_on_what_they_found(mill: Mill):
    defined = await mill.define(
        build=task(title="Build {{input.branch}}", instructions="{{input.why}}", priority="high"),
        test=task(description="Of {{steps.build.output.result}}{{steps.build.output.no}}"),
    )
    run = await mill.start(defined, branch="main", why={"a": [1]})
    assert run.status is RunStatus.QUEUED
    built = await mill.task_of(run, "build")
    assert await mill.statuses(run) == {"build": "running", "test": "pending"}
    await end(mill, built, result="{{input.branch}} is fine")
    tested = await mill.task_of(run, "test")
    first, second = await mill.all_tasks(run)
    assert (first.title, first.instructions, first.priority) == ("Build main", '{"a": [1]}', "high")
    assert (second.title, second.description) == ("test", "Of {{input.branch}} is fine")
    assert (first.workflow_id, first.max_retries) == (defined.id, 3)
    await end(mill, tested)
    ended = await mill.reaches(run, RunStatus.COMPLETED)
    steps = await mill.steps(run)
    assert steps["build"].output == {
        "task_id": built,
        "status": "completed",
        "result": "{{input.branch}} is fine",
        "output_files": [],
    }
    assert all(step.attempt == 1 and step.duration_ms is not None for step in steps.values())
    assert ended.started_at is not None
    started, completed = await mill.told(run)
    base = {"workflow_id": defined.id, "run_id": run.id, "name": "Release"}
    assert started == {"type": "workflow.started", **base, "status": "running"}
    assert completed == {
        "type": "workflow.completed",
        **base,
        "status": "completed",
        "duration_ms": ended.duration_ms,
    }
    result = await mill.handle(run).result()
    assert result == {"run_id": run.id, "status": "completed"}


async def test_independent_steps_run_together_as_many_as_may(mill: Mill):
    run = await mill.run(
        DAG | {"max_parallel": 2}, a=task(), b=task(), c=task(), d=task("a", "b", "c")
    )
    first, second = await mill.task_of(run, "a"), await mill.task_of(run, "b")
    assert (await mill.statuses(run))["c"] == "pending"
    await end(mill, second)
    third = await mill.task_of(run, "c")
    await end(mill, third)
    await end(mill, first)
    await end(mill, await mill.task_of(run, "d"))
    await mill.reaches(run, RunStatus.COMPLETED)
    assert len(await mill.all_tasks(run)) == 4


async def test_a_condition_skips_and_what_hangs_on_skipped_steps_alone_is_skipped(mill: Mill):
    run = await mill.run(
        check=barrier(),
        no=task("check", condition=when("steps.check.output.tasks.0", "exists")),
        beside=barrier("check"),
        behind=barrier("no"),
        both=barrier("behind", "beside"),
    )
    await mill.reaches(run, RunStatus.COMPLETED)
    assert await mill.statuses(run) == {
        "check": "completed", "no": "skipped", "beside": "completed", "behind": "skipped",
        "both": "completed",
    }  # fmt: skip
    assert (await mill.steps(run))["no"].attempt == 0
    assert await mill.all_tasks(run) == []


async def test_a_condition_step_finds_out_and_its_dependents_look(mill: Mill):
    from schema.domain.pipelines import StepType
    from tests.harness.pipelines import Spec

    asks = Spec(StepType.CONDITION, {"condition": when("input.n", "gt", "{{input.most}}")})
    defined = await mill.define(
        asks=asks,
        yes=barrier("asks", condition=when("steps.asks.output.result", "eq", True)),
        no=barrier("asks", condition=when("steps.asks.output.result", "eq", False)),
    )
    for n, expected in ((5, ("completed", "skipped")), (3, ("skipped", "completed"))):
        run = await mill.start(defined, n=n, most=4)
        await mill.reaches(run, RunStatus.COMPLETED)
        statuses = await mill.statuses(run)
        assert (statuses["yes"], statuses["no"]) == expected
        assert (await mill.steps(run))["asks"].output == {"result": n > 4}


async def test_parallel_tasks_are_done_when_all_are(mill: Mill):
    tasks = [{"title": f"{{{{input.what}}}} {n}", "max_retries": n} for n in range(3)]
    defined = await mill.define(many=barrier(tasks=tasks))
    run = await mill.start(defined, what="part")
    await mill.task_of(run, "many")
    made = await mill.all_tasks(run)
    assert [(one.title, one.max_retries) for one in made] == [
        ("part 0", 0),
        ("part 1", 1),
        ("part 2", 2),
    ]
    for one in reversed(made):
        assert (await mill.get(run)).status is RunStatus.RUNNING
        await end(mill, one.id, result=one.title)
    await mill.reaches(run, RunStatus.COMPLETED)
    output = (await mill.steps(run))["many"].output
    assert output is not None
    assert [one["result"] for one in output["tasks"]] == ["part 0", "part 1", "part 2"]  # type: ignore[index,union-attr]


async def test_a_wait_and_a_notification(mill: Mill):
    run = await mill.run(
        rest=wait(1),
        past=Spec(StepType.WAIT, {"until": "2020-01-01"}),
        tell=notify(
            subject="{{steps.rest.output.waited_seconds}} s", body="ok", severity="warning"
        ),
    )
    await mill.reaches(run, RunStatus.COMPLETED)
    steps = await mill.steps(run)
    assert steps["rest"].output == {"waited_seconds": 1}
    assert steps["past"].output == {"waited_seconds": 0}
    assert mill.notifier.told == [Told("1 s", "ok", Severity.WARNING, None)]
    assert steps["tell"].output == {"notification_ids": [1]}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"channel": "slack"}, "The channel slack is not set up"),
        ({"channel_id": 4}, "Channel 4 is not set up"),
    ],
)
async def test_a_channel_that_is_not_set_up_fails_the_step(mill: Mill, config: Any, reason: str):
    run = await mill.run(tell=notify(**config))
    failed = await mill.reaches(run, RunStatus.FAILED)
    step = (await mill.steps(run))["tell"]
    assert (step.status, step.error, step.attempt) == (FAILED, reason, 1)
    assert failed.error == f"Step {step.step_id} (tell) failed: {reason}"


async def test_a_failure_stops_what_has_not_started(mill: Mill):
    run = await mill.run(DAG, a=task(), b=task(), c=task("b"), d=task("a"))
    failing, other = await mill.task_of(run, "a"), await mill.task_of(run, "b")
    await end(mill, failing, TaskStatus.FAILED, error="no disk")
    await mill.step_reaches(run, "a", FAILED)
    assert (await mill.get(run)).status is RunStatus.RUNNING, "what runs may finish"
    await end(mill, other)
    ended = await mill.reaches(run, RunStatus.FAILED)
    assert await mill.statuses(run) == {
        "a": "failed", "b": "completed", "c": "cancelled", "d": "cancelled",
    }  # fmt: skip
    step = (await mill.steps(run))["a"]
    assert step.error == f"Task {failing} failed: no disk"
    assert step.output is not None
    assert step.output["status"] == "failed"
    _, told = await mill.told(run)
    assert told["type"] == "workflow.failed"
    assert told["error"] == ended.error == f"Step {step.step_id} (a) failed: {step.error}"


async def test_a_failure_skips_its_dependents_where_the_rest_goes_on(mill: Mill):
    run = await mill.run(
        DAG | {"on_failure": "continue"},
        a=task(), b=task(), c=task("a"), d=task("c", "b"), e=task("b"),
    )  # fmt: skip
    await end(mill, await mill.task_of(run, "a"), TaskStatus.CANCELLED)
    await mill.step_reaches(run, "d", SKIPPED)
    await end(mill, await mill.task_of(run, "b"))
    await end(mill, await mill.task_of(run, "e"))
    await mill.reaches(run, RunStatus.FAILED)
    assert await mill.statuses(run) == {
        "a": "failed", "b": "completed", "c": "skipped", "d": "skipped", "e": "completed",
    }  # fmt: skip


async def test_a_step_is_tried_again_as_often_as_it_says(mill: Mill):
    run = await mill.run(a=task(max_retries=2, retry_delay_seconds=0))
    for attempt in (1, 2):
        failing = await mill.task_of(run, "a", attempt=attempt)
        await end(mill, failing, TaskStatus.FAILED, error=f"try {attempt}")
    await end(mill, await mill.task_of(run, "a", attempt=3), result="at last")
    await mill.reaches(run, RunStatus.COMPLETED)
    made = await mill.all_tasks(run)
    assert [one.max_retries for one in made] == [0, 0, 0]
    step = (await mill.steps(run))["a"]
    assert (step.attempt, step.error, step.task_ids) == (3, None, [made[2].id])


async def test_a_step_that_waits_for_its_next_attempt_is_pending(mill: Mill):
    run = await mill.run(a=task(max_retries=1, retry_delay_seconds=60))
    await end(mill, await mill.task_of(run, "a"), TaskStatus.FAILED, error="no disk")
    step = await mill.step_reaches(run, "a", StepStatus.PENDING, attempt=1)
    assert step.left_seconds is not None
    assert 50 < step.left_seconds <= 60
    assert "no disk" in (step.error or "")
    await mill.cancel(run)
    assert (await mill.handle(run).result())["status"] == "cancelled"
    assert len(await mill.all_tasks(run)) == 1


async def test_an_agent_that_is_gone_fails_the_step_and_leaves_no_task(mill: Mill):
    agent = await mill.core.agents.create(
        CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="m")
    )
    mill.tasks.gone_agents.add(agent.id)
    run = await mill.run(many=barrier(tasks=[{}, {"agent_id": agent.id}]))
    await mill.reaches(run, RunStatus.FAILED)
    assert (await mill.steps(run))["many"].error == f"Agent {agent.id} not found"
    assert await mill.all_tasks(run) == []


async def test_a_step_that_takes_too_long_fails_and_its_task_is_stopped(mill: Mill):
    run = await mill.run(a=task(timeout_seconds=1))
    await mill.reaches(run, RunStatus.FAILED)
    assert (await mill.steps(run))["a"].error == "The step took longer than 1 seconds"
    [stopped] = await mill.all_tasks(run)
    assert stopped.status is TaskStatus.CANCELLED


async def test_a_run_that_takes_too_long_fails_and_its_steps_are_cancelled(mill: Mill):
    run = await mill.run({"timeout_seconds": 1}, a=task(), b=task())
    failed = await mill.reaches(run, RunStatus.FAILED)
    assert failed.error == "The run took longer than 1 seconds"
    assert await mill.statuses(run) == {"a": "cancelled", "b": "cancelled"}
    [stopped] = await mill.all_tasks(run)
    assert stopped.status is TaskStatus.CANCELLED
    assert [one["type"] for one in await mill.told(run)] == ["workflow.started", "workflow.failed"]


async def test_a_cancel_stops_tasks_and_nothing_starts_after(mill: Mill):
    run = await mill.run(DAG, a=task(), b=wait(60), c=task("a"))
    await mill.task_of(run, "a")
    await mill.cancel(run)
    assert await mill.statuses(run) == {name: "cancelled" for name in "abc"}
    [stopped] = await mill.all_tasks(run)
    assert stopped.status is TaskStatus.CANCELLED
    assert (await mill.handle(run).result())["status"] == "cancelled"
    assert [one["type"] for one in await mill.told(run)] == ["workflow.started"]
    with pytest.raises(Conflict):
        await mill.cancel(run)


async def test_a_cancel_before_the_workflow_is_there_runs_nothing(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mill.core.errands, "run", lose)
    run = await mill.run(a=task())
    await mill.cancel(run)
    monkeypatch.undo()
    await mill.pipelines.dispatch.deliver(run.id)
    assert await mill.all_tasks(run) == []
    assert await mill.told(run) == []
    # A start that was under way all the same finds the run over.
    state = PipelineState(run_id=run.id, pipeline_id=run.pipeline_id)
    await TemporalEngine(mill.client).start_pipeline(state)
    assert (await mill.handle(run).result())["status"] == "cancelled"
    assert await mill.all_tasks(run) == []


async def test_a_cancel_in_temporal_cancels_the_run_in_the_record(mill: Mill):
    run = await mill.run(a=task())
    await mill.task_of(run, "a")
    await mill.handle(run).cancel()
    await mill.reaches(run, RunStatus.CANCELLED)
    [stopped] = await mill.all_tasks(run)
    assert stopped.status is TaskStatus.CANCELLED


async def test_a_start_that_was_lost_is_delivered_by_the_relay(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mill.core.errands, "run", lose)
    run = await mill.run(a=barrier())

    async def relayed() -> bool:
        await mill.parts.relay.relay_due()
        return (await mill.get(run)).status is RunStatus.COMPLETED

    await until(relayed, what="the run")
    assert await mill.statuses(run) == {"a": "completed"}


async def test_a_wake_up_that_was_lost_is_delivered_by_the_relay(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
):
    run = await mill.run(a=task())
    made = await mill.task_of(run, "a")
    monkeypatch.setattr(mill.core.errands, "run", lose)
    await end(mill, made)

    async def relayed() -> bool:
        await mill.parts.relay.relay_due()
        return (await mill.get(run)).status is RunStatus.COMPLETED

    await until(relayed, what="the run")
    assert await mill.statuses(run) == {"a": "completed"}


async def test_a_trigger_starts_a_run_once(mill: Mill):
    defined = await mill.define(a=wait(60))
    desk = mill.pipelines.runs

    async def fire(key: str, pipeline_id: int = defined.id) -> int | None:
        async with mill.core.db.transaction() as tx:
            return await desk.start(
                tx, pipeline_id, {"n": 1}, origin_key=key, trigger_id=7, chain_depth=2
            )

    first = await fire(f"fire-{defined.id}-1")
    assert first is not None
    assert await fire(f"fire-{defined.id}-1") == first
    assert await fire(f"fire-{defined.id}-2") is None, "at the limit"
    run, _ = await desk.get(defined.id, first)
    assert (run.trigger.value, run.trigger_id, run.chain_depth) == ("trigger", 7, 2)
    await mill.reaches(run, RunStatus.RUNNING)
    await mill.pipelines.service.delete(defined.id)
    assert await fire(f"fire-{defined.id}-1") == first
    with pytest.raises(Missing):
        await fire(f"fire-{defined.id}-3")
    empty = await mill.define()
    with pytest.raises(Conflict):
        await fire("fire-empty", empty.id)
    assert (await mill.handle(run).result())["status"] == "cancelled"


async def test_what_is_lost_after_its_commit_is_asked_again_and_happens_once(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
):
    """Each activity commits, and dies before it can say so."""
    record, lost = mill.pipelines.record, list[str]()
    for name in ("begin", "start", "look", "finish"):
        ask = getattr(record, name)

        async def loses(asked: object, name: str = name, ask: Any = ask) -> object:
            answer = await ask(asked)
            if name not in lost:
                lost.append(name)
                raise Unavailable("The database cannot be reached.")
            return answer

        monkeypatch.setattr(record, name, loses)
    run = await mill.run(DAG, a=task(), b=notify(), c=task("a", "b"))
    async with mill.agents(lambda one: {}):
        await mill.reaches(run, RunStatus.COMPLETED)
        await mill.handle(run).result()
    assert sorted(lost) == ["begin", "finish", "look", "start"]
    assert len(await mill.all_tasks(run)) == 2
    assert len(mill.notifier.told) == 1
    assert {step.attempt for step in (await mill.steps(run)).values()} == {1}
    assert [one["type"] for one in await mill.told(run)] == [
        "workflow.started",
        "workflow.completed",
    ]


async def test_temporal_shows_what_runs_by_id(mill: Mill):
    run = await mill.run(DAG, a=task(), b=wait(60), c=task("a"))
    await mill.task_of(run, "a")
    steps = await mill.steps(run)
    described = await mill.handle(run).describe()
    assert await described.static_summary() == f"run {run.id} of workflow {run.pipeline_id}"
    assert f"/runs/{run.id}`" in (await described.static_details() or "")

    async def running() -> bool:
        shown: WorkflowMetadata = await mill.handle(run).query("__temporal_workflow_metadata")
        wanted = f"- running: {steps['a'].step_id}, {steps['b'].step_id}"
        return wanted in shown.current_details

    await until(running, what="the details")
    attributes = (await mill.handle(run).describe()).search_attributes
    assert attributes[names.KIND_ATTRIBUTE] == ["pipeline"]
    assert attributes[names.STATUS_ATTRIBUTE] == ["running"]
    await mill.cancel(run)
    await mill.handle(run).result()
    attributes = (await mill.handle(run).describe()).search_attributes
    assert attributes[names.STATUS_ATTRIBUTE] == ["cancelled"]


async def test_two_hundred_steps_fifty_wide_run_once_each_in_small_histories(mill: Mill):
    layers = [[f"s{layer}_{n}" for n in range(50)] for layer in range(4)]
    specs = {
        name: task(*(layers[depth - 1] if depth else []), title=f"kolibri {name}")
        for depth, layer in enumerate(layers)
        for name in layer
    }
    defined = await mill.define(DAG | {"max_parallel": 20}, **specs)

    def done(one: Task) -> dict[str, Any]:
        return {"result": f"quetzal {one.id}"}

    async with mill.agents(done):
        run = await mill.start(defined, secret="tukan")
        await mill.reaches(run, RunStatus.COMPLETED, timeout=120)
    assert set((await mill.statuses(run)).values()) == {"completed"}
    made = await mill.all_tasks(run)
    assert len(made) == 200
    assert len({one.title for one in made}) == 200
    await mill.handle(run).result()
    assert mill.core.codec is not None
    histories = await chain(mill.client, mill.handle(run).id)
    assert len(histories) >= 2, "it continues as new"
    for history in histories:
        assert len(history.events) < 600
        assert len(raw(history)) < 1_000_000
        opened = await opened_payloads(history, mill.core.codec)
        everything = raw(history) + b"".join(one.SerializeToString() for one in opened)
        for secret in (b"kolibri", b"quetzal", b"tukan", b"Release", b"s0_1"):
            assert secret not in everything
