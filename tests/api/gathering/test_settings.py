"""/settings over the real application, database and model server."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from api.app import create_app
from conclave.container import Core, build_core
from conclave.crypto import new_key
from conclave.db import Database
from conclave.settings import Settings
from tests.api.conftest import local_client
from tests.fakes.engine import FakeEngine
from tests.fakes.model_server import ModelServer

KEY = "sk-ant-0123456789xyz"


@pytest.fixture(scope="session")
async def sealed_app_client(
    api_settings: Settings, shared_engine: FakeEngine
) -> AsyncIterator[httpx.AsyncClient]:
    settings = api_settings.model_copy(update={"encryption_key": SecretStr(new_key())})
    core = await build_core(settings, engine=shared_engine, environment={})
    async with local_client(create_app(settings, core)) as client:
        yield client
    await core.close()


@pytest.fixture
async def settings_client(
    sealed_app_client: httpx.AsyncClient, clean_database: Database
) -> httpx.AsyncClient:
    return sealed_app_client


async def test_settings_list_six_providers_the_database_and_the_application(
    settings_client: httpx.AsyncClient,
):
    answer = await settings_client.get("/settings")

    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"providers", "database", "application"}
    assert list(body["providers"]) == [
        "anthropic",
        "openai",
        "deepseek",
        "mistral",
        "google",
        "ollama",
    ]
    first = body["providers"]["anthropic"]["models"][0]
    assert set(first) == {"id", "model_name", "model_alias", "vision", "extended_thinking"}
    assert set(body["database"]) == {"host", "port", "name", "user", "is_connected"}
    assert body["database"]["is_connected"] is True
    assert set(body["application"]) == {"environment", "debug", "log_level"}


async def test_a_provider_key_comes_back_masked_only(settings_client: httpx.AsyncClient):
    patched = await settings_client.patch("/settings/providers/anthropic", json={"api_key": KEY})
    read = await settings_client.get("/settings")

    assert patched.status_code == 200
    assert patched.json()["api_key"] == "sk-a...xyz"
    assert read.json()["providers"]["anthropic"]["is_configured"] is True
    assert KEY not in patched.text + read.text


async def test_a_provider_is_tested_with_a_real_call(settings_client: httpx.AsyncClient):
    async with ModelServer(api_key="sk-the-right-key") as server:
        change = {"api_key": "sk-the-right-key", "base_url": server.base_url}
        await settings_client.patch("/settings/providers/openai", json=change)
        good = await settings_client.post("/settings/providers/openai/test")
        await settings_client.patch("/settings/providers/openai", json={"api_key": "sk-wrong"})
        bad = await settings_client.post("/settings/providers/openai/test")

    assert good.json() == {
        "success": True,
        "message": "OpenAI API key is valid",
        "models": ["fake-small", "fake-large"],
    }
    assert (bad.status_code, bad.json()["success"]) == (200, False)
    assert bad.json()["message"] == "Invalid API key"


async def test_application_settings_are_changed_and_read_back(settings_client: httpx.AsyncClient):
    change = {"debug": True, "log_level": "WARNING"}
    patched = await settings_client.patch("/settings/application", json=change)
    read = await settings_client.get("/settings")

    assert patched.json() == {"environment": "development", **change}
    assert read.json()["application"] == patched.json()


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("providers/nobody", {"api_key": "x"}, 404, None),
        ("providers/openai", {"api_key": ""}, 422, "api_key"),
        ("providers/openai", {"api_key": "two words"}, 422, "api_key"),
        ("providers/openai", {"api_key": "nul\x00"}, 422, "api_key"),
        ("providers/openai", {"api_key": 7}, 422, "api_key"),
        ("providers/openai", {"base_url": "ftp://x.example"}, 422, "base_url"),
        ("providers/openai", {"base_url": "http://169.254.169.254/"}, 422, "base_url"),
        ("providers/openai", {"default_model": "m" * 256}, 422, "default_model"),
        ("application", {"log_level": "LOUD"}, 422, "log_level"),
        ("application", {"log_level": None}, 422, "log_level"),
        ("application", {"debug": "perhaps"}, 422, "debug"),
    ],
)
async def test_a_bad_change_names_its_field_and_stores_nothing(
    settings_client: httpx.AsyncClient,
    path: str,
    body: dict[str, object],
    status: int,
    field: str | None,
):
    before = (await settings_client.get("/settings")).json()

    answer = await settings_client.patch(f"/settings/{path}", json=body)

    assert answer.status_code == status, answer.text
    if field is not None:
        assert answer.json()["detail"][0]["loc"][-1] == field
    assert (await settings_client.get("/settings")).json() == before


async def test_without_an_encryption_key_a_provider_key_is_not_taken(client: httpx.AsyncClient):
    answer = await client.patch("/settings/providers/openai", json={"api_key": KEY})

    assert answer.status_code == 503
    assert "ENCRYPTION_KEY" in answer.json()["detail"]


async def test_a_stored_log_level_holds_from_the_start_of_the_next_process(
    client: httpx.AsyncClient, api_settings: Settings, core: Core
):
    app = create_app(api_settings, core)  # its own: one that has run drains for good
    root = logging.getLogger()
    before = root.level
    try:
        await client.patch("/settings/application", json={"log_level": "ERROR"})
        root.setLevel("INFO")  # as a process that starts has it
        async with app.router.lifespan_context(app):
            assert root.level == logging.ERROR
    finally:
        root.setLevel(before)
