"""/health: it answers whatever else does not."""

from __future__ import annotations

import httpx
import pytest

from api.app import create_app
from conclave.container import build_core
from conclave.health.service import level_of
from conclave.health.shapes import Level
from tests.api.conftest import local_client
from tests.api.gathering.test_agents import let_speak, make
from tests.fakes.engine import FakeEngine


@pytest.fixture
async def stranded(api_settings):
    """A client of an application whose database and engine cannot be reached."""
    settings = api_settings.model_copy(
        update={"database_url": "postgresql://nobody@127.0.0.1:1/none"}
    )
    core = await build_core(settings, engine=FakeEngine(down=True))
    async with local_client(create_app(settings, core)) as client:
        yield client
    await core.close()


async def test_the_overview_counts_what_there_is(client, database):
    agent = await make(client)
    await client.post("/circles", json={"name": "team"})
    await let_speak(database, agent["id"])
    body = (await client.get("/health")).json()
    assert body["status"] == "healthy"
    assert body["service"] == "conclave"
    assert (body["agents_count"], body["circles_count"], body["active_tasks"]) == (1, 1, 1)
    assert body["uptime_seconds"] >= 0
    assert set(body) == {
        "status", "service", "version", "timestamp", "uptime_seconds",
        "agents_count", "circles_count", "active_tasks",
    }  # fmt: skip


async def test_the_overview_answers_without_a_database(stranded):
    answer = await stranded.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "healthy"
    assert (body["agents_count"], body["circles_count"], body["active_tasks"]) == (None, None, None)
    assert (await stranded.get("/health/live")).json() == {"alive": True}


async def test_what_needs_the_database_is_unavailable_without_it(stranded):
    answer = await stranded.get("/agents")
    assert answer.status_code == 503
    assert answer.json() == {"detail": "The database cannot be reached."}
    assert int(answer.headers["Retry-After"]) >= 1


async def test_ready_names_the_dependency_that_is_missing(client, engine, stranded):
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"ready": True})
    engine.down = True
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "reason": "temporal"})
    answer = await stranded.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "reason": "database"})


async def test_ready_says_that_the_process_drains(api_settings, core, engine):
    app = create_app(api_settings, core)
    async with local_client(app) as client:
        app.state.draining.begin()
        answer = await client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "reason": "shutting_down"}
        assert (await client.get("/health/live")).status_code == 200


async def test_system_measures_the_machine(client):
    body = (await client.get("/health/system")).json()
    assert body["cpu"]["count"] >= 1
    assert 0 < body["memory"]["percent"] <= 100
    assert body["disk"]["total_gb"] >= body["disk"]["free_gb"] > 0
    assert set(body["load_average"]) == {"1min", "5min", "15min"}


async def checks_of(client: httpx.AsyncClient) -> dict[str, str]:
    body = (await client.get("/health/checks")).json()
    return {check["name"]: check["status"] for check in body["checks"]}


async def test_checks_look_at_every_service(client, engine):
    checks = await checks_of(client)
    assert list(checks) == [
        "API Server", "Database", "Memory Usage", "Disk Space",
        "Agents", "Circles", "Temporal", "Workers",
    ]  # fmt: skip
    assert checks["Database"] == checks["Temporal"] == checks["Workers"] == "healthy"
    engine.workers = 0
    assert (await checks_of(client))["Workers"] == "critical"


async def test_checks_tell_what_cannot_be_reached(stranded):
    body = (await stranded.get("/health/checks")).json()
    assert body["overall_status"] == "critical"
    checks = await checks_of(stranded)
    assert checks["API Server"] == "healthy"
    assert checks["Database"] == checks["Temporal"] == checks["Workers"] == "critical"


@pytest.mark.parametrize(
    ("percent", "level"),
    [(70, Level.HEALTHY), (70.1, Level.WARNING), (90, Level.WARNING), (90.1, Level.CRITICAL)],
)
def test_a_level_changes_over_its_threshold(percent, level):
    assert level_of(percent, 70, 90) is level
