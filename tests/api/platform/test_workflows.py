"""/api/v1/workflows."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from conclave.agents.commands import CreateAgent
from conclave.container import Core
from schema.domain.pipelines import RunStatus
from schema.domain.providers import ProviderName
from schema.payloads.pipelines import FinishRun
from schema.tables.events import EventRow
from schema.tables.pipelines import PipelineRunRow
from tests.fakes.callers import bearer
from tests.fakes.engine import FakeEngine
from tests.waiting import until

PATH = "/api/v1/workflows"
PAUSE: dict[str, Any] = {"name": "Pause", "step_type": "wait", "config": {"wait_seconds": 5}}


async def call(
    client: httpx.AsyncClient, method: str, path: str = "", caller: str = "operator", **body: Any
) -> httpx.Response:
    return await client.request(method, PATH + path, json=body or None, headers=bearer(caller))


async def made(client: httpx.AsyncClient, **fields: Any) -> Any:
    answer = await call(client, "POST", "/", **{"name": "Release"} | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def step(client: httpx.AsyncClient, workflow: Any, **fields: Any) -> Any:
    body: dict[str, Any] = {
        "name": "Pause",
        "step_type": "wait",
        "config": {"wait_seconds": 5},
        **fields,
    }
    answer = await call(client, "POST", f"/{workflow['id']}/steps", **body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def got(client: httpx.AsyncClient, path: str) -> Any:
    answer = await call(client, "GET", path, "viewer")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def started(client: httpx.AsyncClient, workflow: Any, **body: Any) -> Any:
    answer = await call(client, "POST", f"/{workflow['id']}/run", **body)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def runnable(client: httpx.AsyncClient, **fields: Any) -> Any:
    workflow = await made(client, **fields)
    await step(client, workflow)
    return workflow


async def test_a_workflow_is_a_draft_until_it_has_steps(outside: httpx.AsyncClient):
    config = {"on_failure": "continue", "layout": {"x": 1}}
    workflow = await made(outside, description="to production", config=config)
    assert workflow == {
        "id": workflow["id"], "name": "Release", "description": "to production",
        "status": "draft", "is_template": False, "config": config, "steps": [], "step_count": 0,
        "last_run_id": None, "created_by": 12, "created_at": workflow["created_at"],
        "updated_at": workflow["updated_at"],
    }  # fmt: skip
    assert await got(outside, f"/{workflow['id']}") == workflow
    first = await step(outside, workflow)
    assert first == {
        "id": first["id"], "workflow_id": workflow["id"], "name": "Pause", "step_type": "wait",
        "order": 1, "config": {"wait_seconds": 5}, "agent_id": None, "depends_on": [],
        "status": "pending",
    }  # fmt: skip
    second = await step(outside, workflow, depends_on=[str(first["id"])])
    front = await step(outside, workflow, order=0)
    assert (second["order"], second["depends_on"]) == (2, [first["id"]])
    shown = await got(outside, f"/{workflow['id']}")
    assert [one["id"] for one in shown["steps"]] == [front["id"], first["id"], second["id"]]
    assert (shown["status"], shown["step_count"]) == ("active", 3)
    assert shown["updated_at"] > workflow["updated_at"]


async def test_the_list_is_filtered_and_without_steps(outside: httpx.AsyncClient):
    draft, template = await made(outside), await made(outside, is_template=True)
    active, running = await runnable(outside), await runnable(outside)
    await started(outside, running)

    async def listed(query: str) -> list[int]:
        return [one["id"] for one in await got(outside, query)]

    everything = [one["id"] for one in (running, active, template, draft)]
    assert await listed("") == await listed("/") == everything
    assert await listed("?is_template=true") == [template["id"]]
    assert await listed("?status=draft") == [template["id"], draft["id"]]
    assert await listed("?status=active") == [active["id"]]
    assert await listed("?status=running&is_template=false") == [running["id"]]
    assert await listed("?limit=2&offset=1") == everything[1:3]
    answer = await call(outside, "GET", "?limit=1")
    assert answer.headers["x-total-count"] == "4"
    assert "steps" not in answer.json()[0]
    for query in ("?status=x", "?is_template=x", "?limit=0"):
        assert (await call(outside, "GET", query)).status_code == 422, query


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "body.name"), ({"name": "x" * 256}, "body.name"),
        ({"config": []}, "body.config"), ({"is_template": None}, "body.is_template"),
        ({"config": {"execution": "wild"}}, "body.config.execution"),
        ({"config": {"max_parallel": 0}}, "body.config.max_parallel"),
        ({"config": {"max_parallel": 21}}, "body.config.max_parallel"),
        ({"config": {"max_parallel": True}}, "body.config.max_parallel"),
        ({"config": {"on_failure": "go"}}, "body.config.on_failure"),
        ({"config": {"max_concurrent_runs": 11}}, "body.config.max_concurrent_runs"),
        ({"config": {"timeout_seconds": 0}}, "body.config.timeout_seconds"),
    ],
)  # fmt: skip
async def test_a_workflow_that_does_not_fit_is_not_stored(
    outside: httpx.AsyncClient, fields: Any, field: str
):
    answer = await call(outside, "POST", "", **{"name": "Release", **fields})
    assert answer.status_code == 422
    assert answer.json()["details"]["errors"][0]["field"] == field
    assert await got(outside, "") == []


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"name": ""}, 422, "body.name"), ({"step_type": "x"}, 422, "body.step_type"),
        ({"order": -1}, 422, "body.order"), ({"depends_on": [99]}, 422, "body.depends_on.0"),
        ({"agent_id": 99}, 404, "agent_id"),
        ({"config": {}}, 422, "body.config.wait_seconds"),
        ({"config": {"wait_seconds": 2_592_001}}, 422, "body.config.wait_seconds"),
        ({"config": {"wait_seconds": 1, "until": "2030-01-01"}}, 422, "body.config.wait_seconds"),
        ({"config": {"until": "soon"}}, 422, "body.config.until"),
        ({"config": {"wait_seconds": 1, "max_retries": 6}}, 422, "body.config.max_retries"),
        ({"config": {"wait_seconds": 1, "timeout_seconds": 0}}, 422,
         "body.config.timeout_seconds"),
        ({"config": {"wait_seconds": 1, "condition": {"field": "input.x"}}}, 422,
         "body.config.condition.operator"),
        ({"step_type": "condition", "config": {}}, 422, "body.config.condition"),
        ({"step_type": "condition", "config": {"condition": {"field": "a", "operator": "is"}}},
         422, "body.config.condition.operator"),
        ({"step_type": "task", "config": {"priority": "x"}}, 422, "body.config.priority"),
        ({"step_type": "task", "config": {"title": "x" * 501}}, 422, "body.config.title"),
        ({"step_type": "parallel", "config": {"tasks": [{}] * 21}}, 422, "body.config.tasks"),
        ({"step_type": "parallel", "config": {"tasks": [{}, {"max_retries": 11}]}}, 422,
         "body.config.tasks.1.max_retries"),
        ({"step_type": "parallel", "config": {"tasks": [{}, {"agent_id": 99}]}}, 404,
         "config.tasks.1.agent_id"),
        ({"step_type": "notify", "config": {"channel": "pigeon"}}, 422, "body.config.channel"),
        ({"step_type": "notify", "config": {"severity": "x"}}, 422, "body.config.severity"),
        ({"step_type": "notify", "config": {"user_id": 99}}, 404, "config.user_id"),
    ],
)  # fmt: skip
async def test_a_step_that_does_not_fit_is_not_stored(
    outside: httpx.AsyncClient, fields: Any, status: int, field: str
):
    workflow = await made(outside)
    body: dict[str, Any] = {
        "name": "Pause",
        "step_type": "wait",
        "config": {"wait_seconds": 5},
        **fields,
    }
    answer = await call(outside, "POST", f"/{workflow['id']}/steps", **body)
    assert answer.status_code == status, answer.text
    details = answer.json()["details"]
    named = details["field"] if status == 404 else details["errors"][0]["field"]
    assert named == field
    assert (await got(outside, f"/{workflow['id']}"))["steps"] == []


async def test_what_fits_is_stored_as_it_was_sent(outside: httpx.AsyncClient, core: Core):
    agent = await core.agents.create(
        CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="m")
    )
    workflow = await made(outside)
    when = {"field": "input.x", "operator": "eq", "value": "{{input.y}}"}
    configs: list[tuple[str, Any]] = [
        ("task", {}),
        ("task", {"title": "Do {{input.x}}", "required_tools": ["git"], "max_retries": 5}),
        ("condition", {"condition": when}),
        ("parallel", {}),
        ("parallel", {"tasks": [{"agent_id": str(agent.id), "max_retries": 10}], "note": 1}),
        ("wait", {"until": "2030-01-01"}),
        ("wait", {"wait_seconds": 0, "condition": when, "retry_delay_seconds": 60}),
        ("notify", {}),
        ("notify", {"channel": "slack", "severity": "critical", "subject": "s", "body": "b"}),
        ("notify", {"channel_id": 7}),
    ]
    for step_type, config in configs:
        added = await step(outside, workflow, step_type=step_type, config=config)
        assert added["config"] == config
    assert (await step(outside, workflow, agent_id=str(agent.id)))["agent_id"] == agent.id
    bare = await call(outside, "POST", f"/{workflow['id']}/steps", name="Build")
    assert bare.json()["step_type"] == "task"


async def test_a_circle_and_a_step_of_another_workflow_are_refused(outside: httpx.AsyncClient):
    workflow, other = await runnable(outside), await runnable(outside)
    [foreign] = (await got(outside, f"/{other['id']}"))["steps"]
    body: dict[str, Any] = {"name": "b", "step_type": "parallel", "depends_on": [foreign["id"]]}
    answer = await call(outside, "POST", f"/{workflow['id']}/steps", **body)
    assert answer.status_code == 422
    assert answer.json()["error_code"] == "VAL_002"
    # Ids are counted: what a client guesses may be the step's own.
    own = [foreign["id"] + number for number in range(1, 6)]
    body["depends_on"] = own[:2]
    answer = await call(outside, "POST", f"/{workflow['id']}/steps", **body)
    assert answer.status_code == 422
    body["depends_on"] = own[2:3]
    answer = await call(outside, "POST", f"/{workflow['id']}/steps", **body)
    assert answer.status_code == 422
    assert answer.json()["error_code"] == "WFL_003"
    assert len((await got(outside, f"/{workflow['id']}"))["steps"]) == 1


async def test_a_run_is_stored_and_its_workflow_started(
    outside: httpx.AsyncClient, engine: FakeEngine
):
    workflow = await runnable(outside)
    run = await started(outside, workflow, input={"branch": "main"})
    assert run.keys() == {
        "id", "workflow_id", "status", "trigger", "trigger_id", "started_by", "input", "error",
        "steps", "created_at", "started_at", "finished_at", "duration_ms",
    }  # fmt: skip
    assert (run["status"], run["trigger"], run["started_by"]) == ("queued", "manual", 12)
    assert (run["workflow_id"], run["input"]) == (workflow["id"], {"branch": "main"})
    [only] = run["steps"]
    assert only == {
        "step_id": only["step_id"], "name": "Pause", "step_type": "wait", "status": "pending",
        "attempt": 0, "output": None, "error": None, "started_at": None, "finished_at": None,
        "duration_ms": None,
    }  # fmt: skip
    await until(lambda: engine.pipelines_started == [run["id"]], what="its workflow")
    path = f"/{workflow['id']}/runs"
    assert await got(outside, f"{path}/{run['id']}") == run
    [listed] = await got(outside, path)
    assert listed == {name: value for name, value in run.items() if name != "steps"}
    shown = await got(outside, f"/{workflow['id']}")
    assert (shown["status"], shown["last_run_id"]) == ("running", run["id"])


async def test_what_cannot_run_says_why(outside: httpx.AsyncClient):
    template = await runnable(outside, is_template=True)
    for workflow, status in ((await made(outside), "draft"), (template, "active")):
        answer = await call(outside, "POST", f"/{workflow['id']}/run")
        assert answer.status_code == 409
        assert answer.json()["details"]["status"] == status
        assert await got(outside, f"/{workflow['id']}/runs") == []
    busy = await runnable(outside)
    await started(outside, busy)
    answer = await call(outside, "POST", f"/{busy['id']}/run", input={})
    assert answer.status_code == 409
    assert answer.json()["details"]["status"] == "running"
    assert (await call(outside, "POST", f"/{busy['id']}/run", input=[])).status_code == 422


@pytest.mark.parametrize("most", [1, 3])
async def test_of_many_starts_at_once_as_many_run_as_may(outside: httpx.AsyncClient, most: int):
    workflow = await runnable(outside, config={"max_concurrent_runs": most})
    answers = await asyncio.gather(
        *(call(outside, "POST", f"/{workflow['id']}/run") for _ in range(8))
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [202] * most + [409] * (8 - most)
    assert len(await got(outside, f"/{workflow['id']}/runs")) == most


async def test_the_status_is_that_of_the_latest_run(outside: httpx.AsyncClient, core: Core):
    workflow = await runnable(outside)
    for status, shown in (
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "active"),
    ):
        run = await started(outside, workflow)
        async with core.db.transaction() as tx:
            await tx.conn.execute(
                update(PipelineRunRow).where(PipelineRunRow.id == run["id"]).values(status=status)
            )
        assert (await got(outside, f"/{workflow['id']}"))["status"] == shown
        [found] = await got(outside, f"?status={shown}")
        assert found["last_run_id"] == run["id"]
        [listed] = await got(outside, f"/{workflow['id']}/runs?status={status}")
        assert listed["id"] == run["id"]
    answer = await call(outside, "GET", f"/{workflow['id']}/runs?limit=1&offset=1")
    assert [one["status"] for one in answer.json()] == ["failed"]
    assert answer.headers["x-total-count"] == "3"
    assert (await call(outside, "GET", f"/{workflow['id']}/runs?status=x")).status_code == 422


async def test_a_run_goes_by_the_steps_it_started_with(outside: httpx.AsyncClient):
    workflow = await runnable(outside, config={"max_concurrent_runs": 2})
    first = await started(outside, workflow)
    later = await step(outside, workflow, name="Later")
    seen = await got(outside, f"/{workflow['id']}/runs/{first['id']}")
    assert [one["name"] for one in seen["steps"]] == ["Pause"]
    second = await started(outside, workflow)
    assert [one["name"] for one in second["steps"]] == ["Pause", "Later"]
    shown = await got(outside, f"/{workflow['id']}")
    assert {one["id"]: one["status"] for one in shown["steps"]}[later["id"]] == "pending"


async def test_a_cancel_is_at_once_and_final(
    outside: httpx.AsyncClient, core: Core, engine: FakeEngine
):
    workflow = await runnable(outside)
    run = await started(outside, workflow)
    path = f"/{workflow['id']}/runs/{run['id']}"
    answer = await call(outside, "POST", f"{path}/cancel")
    assert answer.status_code == 200
    told = answer.json()
    assert told["status"] == told["steps"][0]["status"] == "cancelled"
    assert told["finished_at"]
    assert await got(outside, path) == told
    await until(lambda: engine.pipelines_woken == [run["id"]], what="the wake-up")
    again = await call(outside, "POST", f"{path}/cancel")
    assert again.status_code == 409
    assert again.json()["details"]["status"] == "cancelled"
    assert (await got(outside, f"/{workflow['id']}"))["status"] == "active"
    await started(outside, workflow)


async def test_a_cancel_and_an_end_at_once_are_one_end(outside: httpx.AsyncClient, core: Core):
    workflow = await runnable(outside)
    for _ in range(4):
        run = await started(outside, workflow)
        await core.pipelines.record.begin(run["id"])
        finish = FinishRun(run_id=run["id"], status=RunStatus.COMPLETED)
        answer, ended = await asyncio.gather(
            call(outside, "POST", f"/{workflow['id']}/runs/{run['id']}/cancel"),
            core.pipelines.record.finish(finish),
        )
        expected = "cancelled" if answer.status_code == 200 else "completed"
        shown = await got(outside, f"/{workflow['id']}/runs/{run['id']}")
        assert shown["status"] == ended.status.value == expected


async def test_a_delete_cancels_what_runs(
    outside: httpx.AsyncClient, engine: FakeEngine, core: Core
):
    workflow = await runnable(outside, config={"max_concurrent_runs": 2})
    runs = [await started(outside, workflow) for _ in range(2)]
    answer = await call(outside, "DELETE", f"/{workflow['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    ids = [run["id"] for run in runs]
    await until(lambda: sorted(engine.pipelines_woken) == ids, what="the wake-ups")
    async with core.db.transaction() as tx:
        assert set(await tx.conn.scalars(select(PipelineRunRow.status))) == {"cancelled"}
        told = await tx.conn.scalars(select(EventRow.type))
        assert list(told) == []
    assert await got(outside, "") == []
    base = f"/{workflow['id']}"
    for method, path in (
        ("GET", base), ("DELETE", base), ("POST", f"{base}/run"), ("GET", f"{base}/runs"),
        ("GET", f"{base}/runs/{ids[0]}"), ("POST", f"{base}/runs/{ids[0]}/cancel"),
    ):  # fmt: skip
        assert (await call(outside, method, path)).status_code == 404, (method, path)
    assert (await call(outside, "POST", f"{base}/steps", name="x")).status_code == 404


async def test_a_run_of_another_workflow_is_not_there(outside: httpx.AsyncClient):
    one, other = await runnable(outside), await runnable(outside)
    run = await started(outside, one)
    for method, path in (("GET", ""), ("POST", "/cancel")):
        answer = await call(outside, method, f"/{other['id']}/runs/{run['id']}{path}")
        assert answer.status_code == 404
    assert (await call(outside, "GET", f"/{one['id']}/runs/99999")).status_code == 404
    assert (await call(outside, "GET", f"/{one['id']}/runs/x")).status_code == 422
    assert (await call(outside, "GET", "/99999")).status_code == 404


async def test_viewers_read_and_do_not_write(outside: httpx.AsyncClient):
    workflow = await runnable(outside)
    for method, path in (
        ("POST", ""), ("POST", f"/{workflow['id']}/steps"), ("POST", f"/{workflow['id']}/run"),
        ("DELETE", f"/{workflow['id']}"), ("POST", f"/{workflow['id']}/runs/1/cancel"),
    ):  # fmt: skip
        assert (await call(outside, method, path, "viewer")).status_code == 403, (method, path)
