"""/api/v1/settings/health: each part is really tried, bounded, and never with a secret."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from conclave.configuration import health
from conclave.settings import Settings
from tests.api.platform.conftest import admin_of_another
from tests.fakes.engine import FakeEngine
from tests.fakes.smtp_server import SmtpServer
from tests.harness.servers import free_port

PATH = "/api/v1/settings/health"


async def look(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(PATH)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"overall", "components", "checked_at"}
    assert set(body["components"]) == {"database", "redis", "storage", "mail", "temporal"}
    assert body["checked_at"].endswith("Z")
    return body


async def test_what_is_not_in_use_is_disabled_and_harms_nothing(client: httpx.AsyncClient):
    body = await look(client)

    assert body["overall"] == "healthy"
    components = body["components"]
    for name in ("redis", "storage", "mail"):
        assert components[name]["status"] == "disabled"
    for name, kind in (("database", "postgresql"), ("temporal", "temporal")):
        assert (components[name]["status"], components[name]["type"]) == ("healthy", kind)
        assert components[name]["latency_ms"] >= 0


async def test_the_mail_server_that_is_stored_is_tried(client: httpx.AsyncClient):
    async with SmtpServer() as server:
        await client.put(
            "/api/v1/settings/bulk",
            json={"settings": {"email.smtp_host": "127.0.0.1", "email.smtp_port": server.port}},
        )
        mail = (await look(client))["components"]["mail"]

    assert (mail["status"], mail["type"]) == ("healthy", "smtp")
    assert [line.split()[0].upper() for line in server.heard] == ["EHLO", "QUIT"]
    gone = await look(client)
    assert gone["components"]["mail"]["status"] == "unhealthy"
    assert gone["overall"] == "degraded"


@pytest.mark.usefixtures("clean_database")
async def test_wrong_passwords_and_closed_ports_degrade_and_are_not_repeated(
    api_settings: Settings, engine: FakeEngine, tmp_path: Path
):
    async with (
        SmtpServer() as server,
        admin_of_another(
            api_settings,
            engine,
            smtp_host="127.0.0.1",
            smtp_port=server.port,
            smtp_user="mailer",
            smtp_password=SecretStr("wr0ng-secret"),
            redis_url=SecretStr(f"redis://:wr0ng-secret@127.0.0.1:{free_port()}/0"),
            object_store_url=(tmp_path / "nowhere").as_uri(),
        ) as client,
    ):
        answer = await client.get(PATH)

    body = answer.json()
    assert body["overall"] == "degraded"
    states = {name: part["status"] for name, part in body["components"].items()}
    assert states == {
        "database": "healthy",
        "redis": "unhealthy",
        "storage": "unhealthy",
        "mail": "unhealthy",
        "temporal": "healthy",
    }
    assert "535" in body["components"]["mail"]["error"]
    assert "wr0ng-secret" not in answer.text


@pytest.mark.usefixtures("clean_database")
async def test_storage_in_a_directory_is_healthy(
    api_settings: Settings, engine: FakeEngine, tmp_path: Path
):
    async with admin_of_another(api_settings, engine, object_store_url=tmp_path.as_uri()) as client:
        storage = (await look(client))["components"]["storage"]

    assert (storage["status"], storage["type"]) == ("healthy", "file")


async def test_without_database_and_temporal_it_still_answers(
    api_settings: Settings, engine: FakeEngine
):
    engine.down = True
    url = f"postgresql://someone:wr0ng-secret@127.0.0.1:{free_port()}/x"
    async with (
        SmtpServer() as server,
        admin_of_another(
            api_settings, engine, database_url=url, smtp_host="127.0.0.1", smtp_port=server.port
        ) as client,
    ):
        answer = await client.get(PATH)

    components = answer.json()["components"]
    assert answer.json()["overall"] == "degraded"
    assert components["database"]["status"] == components["temporal"]["status"] == "unhealthy"
    assert components["mail"]["status"] == "healthy"
    assert "wr0ng-secret" not in answer.text


@pytest.mark.usefixtures("clean_database")
async def test_parts_that_hang_are_given_up_together_after_the_limit(
    api_settings: Settings, engine: FakeEngine
):
    async with SmtpServer(is_silent=True) as server:
        endpoint = f"127.0.0.1:{server.port}"
        async with admin_of_another(
            api_settings,
            engine,
            smtp_host="127.0.0.1",
            smtp_port=server.port,
            redis_url=SecretStr(f"redis://{endpoint}/0"),
        ) as client:
            started = asyncio.get_running_loop().time()
            body = await look(client)
            took = asyncio.get_running_loop().time() - started

    assert body["components"]["database"]["status"] == "healthy"
    for name in ("mail", "redis"):
        assert body["components"][name]["status"] == "unhealthy"
        assert "within 2 seconds" in body["components"][name]["error"]
    assert health.LIMIT_SECONDS == 2
    assert took < 2 * health.LIMIT_SECONDS


async def test_a_check_that_crashes_tells_its_kind_only(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    async def crash(self: object, *_: object) -> None:
        raise RuntimeError("wr0ng-secret")

    monkeypatch.setattr("conclave.adapters.mail.probe.SmtpProbe.check", crash)
    await client.put("/api/v1/settings/email/smtp_host", json={"value": "127.0.0.1"})

    answer = await client.get(PATH)

    assert answer.json()["components"]["mail"]["error"] == "The check failed (RuntimeError)."
    assert "wr0ng-secret" not in answer.text
