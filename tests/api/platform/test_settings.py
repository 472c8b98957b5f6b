"""/api/v1/settings over the real application and database, beside the gathering dialect."""

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
from tests.api.conftest import forget_settings, local_client
from tests.fakes.callers import FakeAuthenticator, bearer
from tests.fakes.engine import FakeEngine

KEY = "sk-proj-0123456789-wxyz"
DEFAULTS = {
    "llm": {
        "default_provider": "",
        "default_model": "",
        "anthropic_api_key": "",
        "openai_api_key": "",
        "deepseek_api_key": "",
        "mistral_api_key": "",
        "google_api_key": "",
        "ollama_base_url": "",
        "max_tokens": "4096",
        "temperature": "0.7",
    },
    "email": {
        "smtp_host": "",
        "smtp_port": "587",
        "smtp_user": "",
        "smtp_password": "",
        "smtp_from": "",
        "imap_host": "",
        "imap_port": "993",
        "imap_user": "",
        "imap_password": "",
    },
    "security": {
        "jwt_expire_minutes": "30",
        "require_worker_approval": "true",
        "max_login_attempts": "5",
        "sandbox_enabled": "true",
        "rate_limit_per_minute": "300",
    },
    "general": {
        "max_agents_per_worker": "5",
        "task_timeout_minutes": "60",
        "max_retries": "3",
        "auto_assign_tasks": "true",
        "log_level": "INFO",
        "maintenance_mode": "false",
    },
    "notifications": {
        "notify_task_complete": "true",
        "notify_task_failed": "true",
        "notify_worker_offline": "true",
        "notify_agent_error": "true",
        "webhook_url": "",
    },
    "storage": {"max_file_size_mb": "100", "allowed_file_types": "*", "auto_cleanup_days": "0"},
}
SECRETS = {
    "llm.anthropic_api_key",
    "llm.openai_api_key",
    "llm.deepseek_api_key",
    "llm.mistral_api_key",
    "llm.google_api_key",
    "email.smtp_password",
    "email.imap_password",
}


@pytest.fixture(scope="module")
async def sealed_core(api_settings: Settings, shared_engine: FakeEngine) -> AsyncIterator[Core]:
    settings = api_settings.model_copy(update={"encryption_key": SecretStr(new_key())})
    core = await build_core(settings, engine=shared_engine, environment={})
    core.authenticator = FakeAuthenticator()
    yield core
    await core.close()


@pytest.fixture
async def admin(sealed_core: Core, clean_database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of an application that has an encryption key and no provider in its environment."""
    forget_settings(sealed_core)
    async with local_client(create_app(sealed_core.settings, sealed_core)) as client:
        client.headers.update(bearer("admin"))
        yield client


async def values(client: httpx.AsyncClient) -> dict[str, dict[str, str]]:
    body = (await client.get("/api/v1/settings/")).json()
    return {
        category: {key: one["value"] for key, one in settings.items()}
        for category, settings in body.items()
    }


async def test_every_setting_of_the_contract_is_there_with_its_default(admin: httpx.AsyncClient):
    answer = await admin.get("/api/v1/settings/")

    assert answer.status_code == 200
    body = answer.json()
    assert await values(admin) == DEFAULTS
    assert list(body) == list(DEFAULTS)
    for category, settings in body.items():
        for key, one in settings.items():
            assert set(one) == {"value", "description", "is_secret", "is_default"}
            assert one["description"]
            assert one["is_default"] is True
            assert one["is_secret"] is (f"{category}.{key}" in SECRETS)


async def test_a_provider_key_set_here_is_masked_in_both_dialects(admin: httpx.AsyncClient):
    answer = await admin.put("/api/v1/settings/llm/openai_api_key", json={"value": KEY})
    here = await admin.get("/api/v1/settings")
    there = await admin.get("/settings")

    assert answer.status_code == 200
    assert answer.json() == {
        "key": "llm.openai_api_key",
        "status": "updated",
        "value": "sk-p...wxyz",
    }
    shown = here.json()["llm"]["openai_api_key"]
    assert (shown["value"], shown["is_default"]) == ("sk-p...wxyz", False)
    assert there.json()["providers"]["openai"]["api_key"] == "sk-p...xyz"
    assert there.json()["providers"]["openai"]["is_configured"] is True
    assert KEY not in answer.text + here.text + there.text


async def test_what_is_set_in_the_gathering_dialect_is_seen_here(admin: httpx.AsyncClient):
    root = logging.getLogger()
    before = root.level
    try:
        await admin.patch("/settings/providers/mistral", json={"api_key": KEY})
        await admin.patch("/settings/providers/ollama", json={"base_url": "http://localhost:11434"})
        await admin.patch("/settings/application", json={"log_level": "ERROR"})
        seen = await values(admin)
        assert seen["llm"]["mistral_api_key"] == "sk-p...wxyz"
        assert seen["llm"]["ollama_base_url"] == "http://localhost:11434"
        assert seen["general"]["log_level"] == "ERROR"

        await admin.put("/api/v1/settings/general/log_level", json={"value": "warning"})
        application = (await admin.get("/settings")).json()["application"]
        assert application["log_level"] == "WARNING"
        assert root.level == logging.WARNING
    finally:
        root.setLevel(before)


async def test_a_mask_sent_back_changes_nothing(admin: httpx.AsyncClient, sealed_core: Core):
    await admin.put("/api/v1/settings/llm/openai_api_key", json={"value": KEY})
    everything = {
        f"{category}.{key}": value
        for category, settings in (await values(admin)).items()
        for key, value in settings.items()
    }

    answer = await admin.put("/api/v1/settings/bulk", json={"settings": everything})

    assert answer.status_code == 200
    assert answer.json() == {"updated": len(everything) - 1}
    assert (await sealed_core.providers.access("openai")).api_key == KEY


async def test_several_are_updated_at_once_numbers_and_booleans_too(admin: httpx.AsyncClient):
    answer = await admin.put(
        "/api/v1/settings/bulk",
        json={
            "settings": {
                "llm.max_tokens": 1000,
                "llm.temperature": 0.25,
                "security.sandbox_enabled": False,
                "security.jwt_expire_minutes": "45",
                "llm.google_api_key": KEY,
            }
        },
    )

    assert (answer.status_code, answer.json()) == (200, {"updated": 5})
    seen = await values(admin)
    assert (seen["llm"]["max_tokens"], seen["llm"]["temperature"]) == ("1000", "0.25")
    assert seen["security"]["sandbox_enabled"] == "false"
    security = (await admin.get("/api/v1/security")).json()
    assert security["session"]["access_token_minutes"] == 45


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"llm.max_tokens": "none"}, "body.settings.llm.max_tokens"),
        ({"llm.nope": "x"}, "body.settings.llm.nope"),
        ({"nope": "x"}, "body.settings.nope"),
        ({"security.jwt_expire_minutes": 4}, "body.settings.security.jwt_expire_minutes"),
        ({"llm.ollama_base_url": "http://169.254.169.254"}, "body.settings.llm.ollama_base_url"),
        ({"llm.max_tokens": None}, "body.settings.llm.max_tokens"),
        ({"llm.max_tokens": ["1"]}, "body.settings.llm.max_tokens"),
    ],
)
async def test_one_wrong_of_three_applies_nothing(
    admin: httpx.AsyncClient, bad: dict[str, object], field: str
):
    answer = await admin.put(
        "/api/v1/settings/bulk",
        json={"settings": {"llm.openai_api_key": KEY, "general.max_retries": "7", **bad}},
    )

    assert answer.status_code == 422
    assert answer.json()["details"]["errors"][0]["field"] == field
    assert await values(admin) == DEFAULTS


async def test_settings_and_security_are_one_store(admin: httpx.AsyncClient):
    await admin.put(
        "/api/v1/security",
        json={"lockout": {"max_attempts": 8}, "rate_limit": {"per_user_per_minute": 900}},
    )
    seen = (await admin.get("/api/v1/settings")).json()["security"]
    assert (seen["max_login_attempts"]["value"], seen["rate_limit_per_minute"]["value"]) == (
        "8",
        "900",
    )
    assert seen["max_login_attempts"]["is_default"] is False

    await admin.put("/api/v1/settings/security/max_login_attempts", json={"value": 3})
    assert (await admin.get("/api/v1/security")).json()["lockout"]["max_attempts"] == 3


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("llm/nope", {"value": "x"}, 404),
        ("nope/max_tokens", {"value": "x"}, 404),
        ("application/debug", {"value": "true"}, 404),
        ("llm/max_tokens", {"value": "x"}, 422),
        ("llm/max_tokens", {"value": None}, 422),
        ("llm/max_tokens", {}, 422),
        ("llm/max_tokens", {"value": {"a": 1}}, 422),
        ("llm/default_model", {"value": "m" * 9000}, 422),
        ("llm/default_model", {"value": "nul\x00"}, 422),
        ("bulk", {}, 422),
        ("bulk", {"settings": {f"llm.{n}": "x" for n in range(201)}}, 422),
    ],
)
async def test_what_cannot_be_set_says_so_and_stores_nothing(
    admin: httpx.AsyncClient, path: str, body: dict[str, object], status: int
):
    answer = await admin.put(f"/api/v1/settings/{path}", json=body)

    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail", "error_code", "error_name", "details", "request_id"}
    assert await values(admin) == DEFAULTS


async def test_without_an_encryption_key_a_secret_is_refused_and_the_rest_with_it(
    client: httpx.AsyncClient,
):
    change = {"settings": {"general.max_retries": 9, "email.smtp_password": "secret"}}
    answer = await client.put("/api/v1/settings/bulk", json=change)

    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert "ENCRYPTION_KEY" in answer.json()["detail"]
    assert (await values(client))["general"]["max_retries"] == "3"
