"""/api/projects: what is made, shown, changed, refused and deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from conclave.container import Core
from conclave.db import Database
from schema.tables.events import EventRow
from schema.tables.inbox import OutboxRow
from schema.tables.projects import ProjectRow
from tests.fakes.engine import FakeEngine
from tests.waiting import until

FITS = {"name": "My API Service", "source": "github", "source_project_id": "myorg/api-service"}


async def make(client: Any, **more: Any) -> Any:
    answer = await client.post("/api/projects", json=FITS | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def count(database: Any) -> int:
    async with database.transaction() as tx:
        return len((await tx.conn.execute(select(ProjectRow.id))).all())


async def set_checkout(database: Any, status: str, reason: str | None = None) -> None:
    async with database.transaction() as tx:
        values = {"status": status, "reason": reason}
        await tx.conn.execute(
            text("UPDATE projects SET checkout_status = :status, checkout_reason = :reason"), values
        )


async def test_what_is_made_is_what_is_shown_and_listed(client):
    made = await make(client, description="Backend API project", nonsense=1)
    for field in ("created_at", "updated_at"):
        assert datetime.fromisoformat(made[field])
        assert made[field].endswith("Z")
    assert {key: value for key, value in made.items() if not key.endswith("_at")} == FITS | {
        "id": 1,
        "description": "Backend API project",
        "repository_url": None,
        "default_branch": None,
        "checkout": {"status": "pending", "reason": None},
    }
    assert (await client.get("/api/projects/1")).json() == made
    second = await make(client, source="jira")
    listed = await client.get("/api/projects/")
    assert listed.json() == [made, second]
    assert listed.headers["x-total-count"] == "2"
    assert (await client.get("/api/projects?limit=1&offset=1")).json() == [second]


async def test_a_new_project_starts_its_checkout_once(client, engine, database):
    made = await make(client)

    async def struck() -> bool:
        async with database.transaction() as tx:
            return not (await tx.conn.execute(select(OutboxRow.id))).all()

    await until(struck, what="the outbox to be struck")
    assert [(one.project_id, one.run) for one in engine.checkouts] == [(made["id"], 1)]


async def test_without_an_engine_the_start_is_owed(
    client: httpx.AsyncClient, engine: FakeEngine, core: Core, database: Database
):
    engine.down = True
    made = await make(client)
    await until(lambda: core.errands.is_idle, what="the try to start it")
    async with database.transaction() as tx:
        [row] = (await tx.conn.execute(select(OutboxRow.target_kind, OutboxRow.target_id))).all()
    assert tuple(row) == ("project", made["id"])


async def test_the_same_project_of_a_source_is_taken_until_it_is_deleted(client, database):
    made = await make(client)
    refused = await client.post("/api/projects", json=FITS | {"name": "Another"})
    assert refused.status_code == 409
    assert refused.json() == {"error": "A project for myorg/api-service of github already exists"}
    other = await make(client, source="gitlab")
    moved = await client.put(f"/api/projects/{other['id']}", json={"source": "github"})
    assert moved.status_code == 409
    assert (await client.get(f"/api/projects/{other['id']}")).json() == other
    assert (await client.delete(f"/api/projects/{made['id']}")).json() == {"deleted": True}
    assert (await client.put(f"/api/projects/{other['id']}", json={"source": "github"})).json()[
        "source"
    ] == "github"


async def test_a_put_changes_what_is_sent_alone(client):
    made = await make(client, description="d")
    changed = await client.put("/api/projects/1", json={"name": " New ", "unknown": True})
    assert changed.status_code == 200
    body = changed.json()
    assert body["updated_at"] > made["updated_at"]
    assert body == made | {"name": "New", "updated_at": body["updated_at"]}
    assert (await client.get("/api/projects/1")).json() == body
    emptied = await client.put("/api/projects/1", json={"description": None})
    assert emptied.json()["description"] is None
    same = await client.put("/api/projects/1", json={"description": None, "name": "New"})
    assert same.json() == emptied.json()


async def test_a_repository_is_fixed_once_its_checkout_is_ready(client, engine, database):
    await make(client, repository_url="https://140.82.121.3/a/b")
    await until(lambda: len(engine.checkouts) == 1, what="the first checkout")
    await set_checkout(database, "ready")
    ready = (await client.get("/api/projects/1")).json()
    assert ready["checkout"] == {"status": "ready", "reason": None}
    for url in ("https://140.82.121.3/other", None):
        refused = await client.put("/api/projects/1", json={"name": "x", "repository_url": url})
        assert refused.status_code == 409
        assert "cannot change" in refused.json()["error"]
    assert (await client.get("/api/projects/1")).json() == ready
    same = {"repository_url": ready["repository_url"], "default_branch": "trunk"}
    assert (await client.put("/api/projects/1", json=same)).json()["default_branch"] == "trunk"
    assert len(engine.checkouts) == 1


async def test_a_failed_checkout_is_tried_again_by_sending_its_repository(client, engine, database):
    url = "https://140.82.121.3/a/b"
    await make(client, repository_url=url)
    await until(lambda: len(engine.checkouts) == 1, what="the first checkout")
    await set_checkout(database, "failed", "The remote refused")
    shown = (await client.get("/api/projects/1")).json()
    assert shown["checkout"] == {"status": "failed", "reason": "The remote refused"}
    assert (await client.put("/api/projects/1", json={"name": "x"})).json()["checkout"] == shown[
        "checkout"
    ]
    again = await client.put("/api/projects/1", json={"repository_url": url})
    assert again.json()["checkout"] == {"status": "pending", "reason": None}
    await until(lambda: len(engine.checkouts) == 2, what="the second checkout")
    assert [one.run for one in engine.checkouts] == [1, 2]
    assert [one.run for one in engine.cancelled] == [1]


async def test_a_deleted_project_is_gone_its_checkout_cancelled_its_files_removed(
    client, engine, database
):
    await make(client)
    answer = await client.delete("/api/projects/1")
    assert (answer.status_code, answer.json()) == (200, {"deleted": True})
    for method in ("GET", "PUT", "DELETE"):
        body = {"json": {"name": "x"}} if method == "PUT" else {}
        gone = await client.request(method, "/api/projects/1", **body)
        assert (gone.status_code, gone.json()) == (404, {"error": "Project 1 not found"})
    assert (await client.get("/api/projects")).json() == []
    await until(lambda: len(engine.removals) == 1, what="the removal")
    assert [one.project_id for one in engine.removals] == [1]
    assert [(one.project_id, one.run) for one in engine.cancelled] == [(1, 1)]


async def test_changes_are_told_and_audited(client, database):
    await make(client, repository_url="https://140.82.121.3/a")
    await client.put("/api/projects/1", json={"name": "New"})
    await client.delete("/api/projects/1")
    async with database.transaction() as tx:
        columns = (EventRow.type, EventRow.stream, EventRow.data)
        events = (await tx.conn.execute(select(*columns).order_by(EventRow.seq))).all()
        query = "SELECT action, resource_type, resource_id, changes FROM audit_entries ORDER BY id"
        entries = (await tx.conn.execute(text(query))).all()
    assert [event.type for event in events] == [
        "project.created",
        "project.updated",
        "project.deleted",
    ]
    assert {event.stream for event in events} == {"project-1"}
    assert events[1].data["changed"] == ["name"]
    assert [entry[:3] for entry in entries] == [
        ("project_created", "project", "1"),
        ("project_updated", "project", "1"),
        ("project_deleted", "project", "1"),
    ]
    assert entries[1].changes == {"name": {"before": FITS["name"], "after": "New"}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": None}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"description": "x" * 20_001}, "description"),
        ({"source": "bitbucket"}, "source"),
        ({"source": None}, "source"),
        ({"source_project_id": ""}, "source_project_id"),
        ({"source_project_id": "x" * 256}, "source_project_id"),
        ({"repository_url": ""}, "repository_url"),
        ({"repository_url": "https://x/" + "x" * 2048}, "repository_url"),
        ({"repository_url": "http://140.82.121.3/a"}, "repository_url"),
        ({"repository_url": "file:///etc"}, "repository_url"),
        ({"repository_url": "ext::sh -c id"}, "repository_url"),
        ({"repository_url": "git@github.com:a/b.git"}, "repository_url"),
        ({"repository_url": "https://user:kolibri@140.82.121.3/a"}, "repository_url"),
        ({"repository_url": "https://127.0.0.1:8000/a"}, "repository_url"),
        ({"repository_url": "https://10.0.0.1/a"}, "repository_url"),
        ({"repository_url": 7}, "repository_url"),
        ({"default_branch": "-b"}, "default_branch"),
        ({"default_branch": "a..b"}, "default_branch"),
        ({"default_branch": ""}, "default_branch"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_what_does_not_fit_is_a_400_that_names_the_field(
    client, database, body, field, method
):
    before = await make(client) if method == "PUT" else None
    path, sent = ("/api/projects/1", body) if before else ("/api/projects", FITS | body)
    answer = await client.request(method, path, json=sent)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"].startswith(f"{field}: ")
    assert "kolibri" not in answer.text
    assert await count(database) == (1 if before else 0)
    if before:
        assert (await client.get(path)).json() == before


@pytest.mark.parametrize("field", FITS)
async def test_what_is_required_is_asked_for(client, field):
    body = {key: value for key, value in FITS.items() if key != field}
    answer = await client.post("/api/projects", json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": f"{field}: Field required"})


async def test_a_host_that_no_name_server_knows_just_now_is_for_the_checkout_to_tell(client):
    made = await make(client, repository_url="https://not-there.invalid/a.git")
    assert made["repository_url"] == "https://not-there.invalid/a.git"


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/api/projects", b"{", 400),
        ("POST", "/api/projects", b"[]", 400),
        ("POST", "/api/projects", b"", 400),
        ("PUT", "/api/projects/1", b"nonsense", 400),
        ("GET", "/api/projects/abc", None, 400),
        ("GET", "/api/projects/9223372036854775808", None, 400),
        ("GET", "/api/projects/0", None, 404),
        ("GET", "/api/projects?limit=0", None, 400),
        ("GET", "/api/projects?limit=1001", None, 400),
        ("GET", "/api/projects?offset=-1", None, 400),
        ("PATCH", "/api/projects/1", b"{}", 405),
        ("GET", "/api/nothing", None, 404),
        ("POST", "/webhook/nothing", b"{}", 404),
    ],
)
async def test_every_error_of_these_paths_is_an_error(client, method, path, content, status):
    headers = {"content-type": "application/json"}
    answer = await client.request(method, path, content=content, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"]


@pytest.mark.parametrize("path", ["/api/chats/x", "/api/config/nothing", "/api/v1/nothing"])
async def test_paths_of_other_dialects_below_api_keep_their_own_errors(client, path):
    answer = await client.get(path)
    # Chats want credentials before anything is said of what exists.
    assert answer.status_code == (401 if path.startswith("/api/chats") else 404)
    assert "detail" in answer.json()


async def test_health_says_ok_and_when(client):
    answer = await client.get("/api/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert datetime.fromisoformat(answer.json()["timestamp"]).tzinfo is not None
