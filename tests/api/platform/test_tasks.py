"""/api/v1/tasks and /api/v1/dead-letter, without a worker: what stands in the record."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from conclave.agents.commands import CreateAgent
from conclave.container import Core
from schema.domain.agents import AgentConfig
from schema.domain.providers import ProviderName
from tests.fakes.callers import bearer
from tests.fakes.engine import FakeEngine
from tests.waiting import until

TASKS = "/api/v1/tasks"
LETTERS = "/api/v1/dead-letter"
FIELDS = {
    "id", "title", "description", "instructions", "status", "priority", "agent_id", "agent_name",
    "assigned_by", "workflow_id", "workflow_run_id", "parent_task_id", "definition_id",
    "project_id", "conversation_id", "attempt", "result", "error", "error_type",
    "pending_reason", "output_files", "deadline", "overdue", "started_at", "completed_at",
    "next_attempt_at", "retry_count", "max_retries", "required_tools", "progress_percent",
    "estimated_duration_seconds", "actual_duration_seconds", "budget_usd", "cost_tokens",
    "cost_usd", "metadata", "created_at", "updated_at",
}  # fmt: skip


async def made(client: httpx.AsyncClient, **fields: Any) -> Any:
    answer = await client.post(TASKS, json={"title": "make tea", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def got(client: httpx.AsyncClient, task_id: int) -> Any:
    answer = await client.get(f"{TASKS}/{task_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def patched(client: httpx.AsyncClient, task_id: int, **fields: Any) -> httpx.Response:
    return await client.patch(f"{TASKS}/{task_id}", json=fields)


async def an_agent(core: Core, *tools: str) -> int:
    agent = await core.agents.create(
        CreateAgent(
            name="Ada",
            provider=ProviderName.OPENAI,
            model="m",
            config=AgentConfig(tools=[*tools]),
        )
    )
    return agent.id


async def test_a_task_is_made_and_shown(client: httpx.AsyncClient):
    task = await made(
        client,
        description="green",
        instructions="boil water",
        priority="high",
        deadline="2020-01-01",
        required_tools=["look"],
        max_retries=1,
        metadata={"max_iterations": 5, "tool_timeout": 60, "note": "x"},
        budget_usd=0.5,
    )
    assert task.keys() == FIELDS
    assert (task["status"], task["agent_id"], task["output_files"]) == ("pending", None, [])
    assert (task["deadline"], task["overdue"]) == ("2020-01-01T00:00:00Z", True)
    assert (task["budget_usd"], task["cost_usd"]) == (0.5, 0)
    shown = await got(client, task["id"])
    assert shown["instructions"] == "boil water"
    with_slash = await client.get(f"{TASKS}/{task['id']}/")
    assert with_slash.json()["id"] == task["id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.title"),
        ({"title": " "}, "body.title"),
        ({"title": "x" * 501}, "body.title"),
        ({"title": "x", "priority": "urgent"}, "body.priority"),
        ({"title": "x", "max_retries": 11}, "body.max_retries"),
        ({"title": "x", "deadline": "soon"}, "body.deadline"),
        ({"title": "x", "metadata": {"max_iterations": 51}}, "body.metadata"),
        ({"title": "x", "metadata": {"tool_timeout": True}}, "body.metadata"),
        ({"title": "x", "required_tools": [""]}, "body.required_tools.0"),
        ({"title": "x", "budget_usd": -1}, "body.budget_usd"),
    ],
)
async def test_what_does_not_fit_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
):
    answer = await client.post(TASKS, json=body)
    assert answer.status_code == 422
    assert answer.json()["details"]["errors"][0]["field"] == field


@pytest.mark.parametrize("field", ["agent_id", "project_id"])
async def test_what_a_task_refers_to_must_exist(client: httpx.AsyncClient, field: str):
    answer = await client.post(TASKS, json={"title": "x", field: 999})
    assert (answer.status_code, answer.json()["details"]) == (404, {"field": field})
    assert (await client.get(TASKS)).json() == []


async def test_the_list_is_filtered_and_paged(client: httpx.AsyncClient):
    ids = [(await made(client, title=f"t{n}", priority=p))["id"] for n, p in enumerate(PRIORITIES)]
    everything = await client.get(TASKS)
    assert [task["id"] for task in everything.json()] == ids[::-1]
    assert everything.headers["x-total-count"] == "4"
    page = await client.get(TASKS, params={"limit": 2, "offset": 1})
    assert [task["id"] for task in page.json()] == ids[1:3][::-1]
    high = await client.get(TASKS, params={"priority": "high"})
    assert [task["id"] for task in high.json()] == [ids[1]]
    await client.post(f"{TASKS}/{ids[0]}/cancel")
    ended = await client.get(TASKS, params={"status_filter": "cancelled,completed"})
    assert [task["id"] for task in ended.json()] == [ids[0]]
    assert (await client.get(TASKS, params={"status_filter": "lost"})).status_code == 422


PRIORITIES = ["critical", "high", "medium", "low"]


async def test_stats_have_every_key(client: httpx.AsyncClient):
    await made(client, priority="low")
    stats = (await client.get(f"{TASKS}/stats")).json()
    assert stats["total"] == 1
    assert stats["by_priority"] == {"critical": 0, "high": 0, "medium": 0, "low": 1}
    assert sum(stats["by_status"].values()) == 1
    assert set(stats["by_status"]) == {
        "pending", "queued", "assigned", "in_progress", "review", "completed", "failed",
        "cancelled",
    }  # fmt: skip


async def test_a_task_with_an_agent_is_started(
    client: httpx.AsyncClient, core: Core, engine: FakeEngine
):
    agent = await an_agent(core)
    task = await made(client, agent_id=agent, priority="critical")
    assert (task["status"], task["agent_name"]) == ("assigned", "Ada")
    await until(lambda: engine.tasks, what="its workflow")
    [asked] = engine.tasks
    assert (asked.task_id, asked.run, asked.execution, asked.rank) == (task["id"], 1, 1, 0)


async def test_unassigned_tasks_wait_where_nobody_may_be_chosen(
    client: httpx.AsyncClient, core: Core, engine: FakeEngine
):
    await client.put("/api/v1/settings/general/auto_assign_tasks", json={"value": False})
    await an_agent(core)
    task = await made(client)
    await until(lambda: core.errands.is_idle, what="the dispatcher")
    assert (await got(client, task["id"]))["status"] == "pending"
    assert engine.tasks == []


async def test_a_task_is_changed_by_hand(client: httpx.AsyncClient, core: Core):
    task = await made(client)
    answer = await patched(
        client, task["id"], title="coffee", progress_percent=40, description="black"
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["title"] == "coffee"
    assert (await patched(client, task["id"], description=None)).json()["description"] is None
    for field in ("title", "status", "priority", "output_files"):
        assert (await patched(client, task["id"], **{field: None})).status_code == 422
    assert (await patched(client, task["id"], agent_id=999)).status_code == 404
    assert (await got(client, task["id"]))["progress_percent"] == 40


async def test_the_status_is_set_by_hand(client: httpx.AsyncClient, core: Core):
    task = await made(client, required_tools=["no such tool"])
    refused = await patched(client, task["id"], status="assigned")
    assert (refused.status_code, refused.json()["details"]["errors"][0]["field"]) == (
        422,
        "body.status",
    )
    working = await patched(client, task["id"], status="in_progress")
    assert working.json()["started_at"] is not None
    assert (await patched(client, task["id"], status="review")).json()["status"] == "review"
    failed = await patched(client, task["id"], status="failed", error="no water")
    assert (failed.json()["error"], failed.json()["completed_at"] is None) == ("no water", False)
    again = await patched(client, task["id"], status="pending")
    assert (again.json()["status"], again.json()["error"]) == ("pending", None)
    done = await patched(client, task["id"], status="completed", result="tea")
    assert (done.json()["result"], done.json()["progress_percent"]) == ("tea", 100)
    for status in ("pending", "failed", "cancelled"):
        late = await patched(client, task["id"], status=status)
        assert late.status_code == 409, late.text
        assert (late.status_code, late.json()["details"]["status"]) == (409, "completed")
    assert (await client.post(f"{TASKS}/{task['id']}/cancel")).status_code == 409


async def test_of_many_cancels_one_holds(client: httpx.AsyncClient):
    task = await made(client)
    path = f"{TASKS}/{task['id']}/cancel"
    answers = await asyncio.gather(*(client.post(path, json={"reason": "no"}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    assert (await got(client, task["id"]))["status"] == "cancelled"


async def test_giving_a_task_to_another_agent(
    client: httpx.AsyncClient, core: Core, engine: FakeEngine
):
    ada, bob = await an_agent(core), await an_agent(core)
    task = await made(client, agent_id=ada)
    await until(lambda: engine.tasks, what="its workflow")
    moved = await patched(client, task["id"], agent_id=bob)
    assert (moved.json()["agent_id"], moved.json()["status"]) == (bob, "assigned")
    await until(lambda: len(engine.tasks) == 2, what="the other's workflow")
    assert (engine.tasks[1].agent_id, engine.tasks[1].run) == (bob, 2)
    assert engine.tasks_cancelled == [(task["id"], 1)]


async def test_a_viewer_reads_and_writes_nothing(outside: httpx.AsyncClient, client: Any):
    task = await made(client)
    viewer = bearer("viewer")
    assert (await outside.get(f"{TASKS}/{task['id']}", headers=viewer)).status_code == 200
    refused = await outside.post(TASKS, json={"title": "x"}, headers=viewer)
    assert refused.status_code == 403
    assert (await outside.get(LETTERS, headers=bearer("operator"))).status_code == 403


async def given_up(client: httpx.AsyncClient, **fields: Any) -> Any:
    task = await made(client)
    answer = await client.post(LETTERS, json={"task_id": task["id"], **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_task_is_given_up_and_tried_again(client: httpx.AsyncClient):
    letter = await given_up(client, reason="nobody knows how", metadata={"ticket": 7})
    assert (letter["error_message"], letter["source"]) == ("nobody knows how", "manual")
    assert (letter["status"], letter["metadata"]) == ("permanently_failed", {"ticket": 7})
    assert (await got(client, letter["task_id"]))["status"] == "failed"
    assert (await client.get(f"{LETTERS}/{letter['id']}")).json() == letter
    again = await client.post(LETTERS, json={"task_id": letter["task_id"]})
    assert again.status_code == 409
    retried = await client.post(f"{LETTERS}/{letter['id']}/retry")
    assert retried.json() == {
        "id": letter["id"],
        "task_id": letter["task_id"],
        "status": "retried",
        "task_status": "pending",
        "message": f"Task {letter['task_id']} is pending again",
    }
    task = await got(client, letter["task_id"])
    assert (task["status"], task["retry_count"], task["error"]) == ("pending", 0, None)
    assert (await client.post(f"{LETTERS}/{letter['id']}/retry")).status_code == 409
    second = await client.post(LETTERS, json={"task_id": letter["task_id"]})
    assert second.status_code == 201


async def test_retry_all_takes_what_may_pass(client: httpx.AsyncClient):
    letters = [
        await given_up(client, error_type=error)
        for error in ("provider", "provider", "timeout", "manual")
    ]
    stats = (await client.get(f"{LETTERS}/stats")).json()
    assert (stats["total"], stats["pending"], stats["retryable"]) == (4, 3, 3)
    assert stats["by_error_type"] == {"provider": 2, "timeout": 1, "manual": 1}
    assert stats["by_priority"]["medium"] == 4
    some = await client.post(f"{LETTERS}/retry-all", json={"error_type": "timeout"})
    assert (some.json()["retried_count"], some.json()["skipped_count"]) == (1, 0)
    rest = await client.post(f"{LETTERS}/retry-all")
    assert rest.json()["retried_count"] == 2
    left = await client.get(LETTERS)
    assert [letter["id"] for letter in left.json()] == [letters[3]["id"]]
    assert left.headers["x-total-count"] == "1"
    retried = await client.get(LETTERS, params={"status": "retried", "error_type": "provider"})
    assert len(retried.json()) == 2


async def test_a_discarded_letter_is_gone_and_its_task_stays_failed(client: httpx.AsyncClient):
    letter = await given_up(client)
    assert (await client.delete(f"{LETTERS}/{letter['id']}")).status_code == 204
    assert (await client.get(f"{LETTERS}/{letter['id']}")).status_code == 404
    assert (await client.delete(f"{LETTERS}/{letter['id']}")).status_code == 404
    assert (await client.post(f"{LETTERS}/{letter['id']}/retry")).status_code == 409
    assert (await got(client, letter["task_id"]))["status"] == "failed"
    assert (await client.get(f"{LETTERS}/stats")).json()["discarded"] == 1


async def test_of_many_retries_one_holds(client: httpx.AsyncClient):
    letter = await given_up(client)
    path = f"{LETTERS}/{letter['id']}/retry"
    answers = await asyncio.gather(*(client.post(path) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]


async def test_what_is_not_there_cannot_be_given_up(client: httpx.AsyncClient):
    answer = await client.post(LETTERS, json={"task_id": 999})
    assert (answer.status_code, answer.json()["details"]) == (404, {"field": "task_id"})
    task = await made(client)
    await client.post(f"{TASKS}/{task['id']}/cancel")
    over = await client.post(LETTERS, json={"task_id": task["id"]})
    assert (over.status_code, over.json()["details"]["status"]) == (409, "cancelled")


async def test_output_files_are_files_that_there_are(client: httpx.AsyncClient):
    task = await made(client)
    sent = await client.post("/api/v1/files/upload", files={"file": ("tea.txt", b"green")})
    file = sent.json()
    missing = await patched(client, task["id"], output_files=[file["id"], 999])
    assert (missing.status_code, missing.json()["details"]) == (404, {"field": "output_files"})
    set_ = await patched(client, task["id"], output_files=[file["id"]])
    assert set_.json()["output_files"] == [
        {name: file[name] for name in ("id", "filename", "size_bytes", "content_type")}
    ]
    await client.delete(f"/api/v1/files/{file['id']}")
    assert (await got(client, task["id"]))["output_files"] == []
