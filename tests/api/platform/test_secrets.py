"""/api/v1/secrets over the real application and database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from conclave.crypto import new_key
from conclave.db import Database
from conclave.settings import Settings
from tests.api.platform.conftest import admin_of_another
from tests.fakes.engine import FakeEngine

PATH = "/api/v1/secrets"
MASK = "********"
VALUE = "hunter2-\N{KEY}"
FIELDS = {
    "id",
    "name",
    "category",
    "description",
    "value",
    "version",
    "expires_at",
    "is_expired",
    "rotated_at",
    "rotated_by",
    "accessed_count",
    "last_accessed_at",
    "created_by",
    "created_at",
    "updated_at",
}


@pytest.fixture(scope="session")
async def vault_app_client(
    api_settings: Settings, shared_engine: FakeEngine
) -> AsyncIterator[httpx.AsyncClient]:
    key = SecretStr(new_key())
    async with admin_of_another(api_settings, shared_engine, encryption_key=key) as client:
        yield client


@pytest.fixture
async def vault(vault_app_client: httpx.AsyncClient, clean_database: Database) -> httpx.AsyncClient:
    return vault_app_client


async def make(vault: httpx.AsyncClient, name: str = "db", **fields: object) -> dict[str, object]:
    answer = await vault.post(PATH, json={"name": name, "value": VALUE, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_secret_is_created_masked_and_read_back(vault: httpx.AsyncClient):
    made = await make(vault, description="what for", expires_at="2999-01-01T00:00:00+02:00")

    assert set(made) == FIELDS
    assert (made["value"], made["version"], made["category"]) == (MASK, 1, "general")
    assert (made["expires_at"], made["is_expired"]) == ("2998-12-31T22:00:00Z", False)
    answer = await vault.get(f"{PATH}/{made['id']}")
    assert answer.json() == made


async def test_a_reveal_shows_the_value_counts_and_is_kept_out_of_caches(vault: httpx.AsyncClient):
    made = await make(vault)

    answer = await vault.get(f"{PATH}/{made['id']}", params={"reveal": "true"})

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["value"], body["accessed_count"]) == (VALUE, 1)
    assert body["last_accessed_at"].endswith("Z")
    assert (await vault.get(f"{PATH}/{made['id']}")).json()["value"] == MASK


async def test_lists_are_masked_counted_and_filtered(vault: httpx.AsyncClient):
    for name in ("a", "b", "c"):
        await make(vault, name, category="token" if name == "b" else "general")

    answer = await vault.get(PATH, params={"limit": 2, "skip": 1})
    assert answer.headers["x-total-count"] == "3"
    assert [(one["name"], one["value"]) for one in answer.json()] == [("b", MASK), ("a", MASK)]
    answer = await vault.get(f"{PATH}/", params={"category": "token"})
    assert [one["name"] for one in answer.json()] == ["b"]


async def test_an_update_is_partial_and_a_value_makes_a_version(vault: httpx.AsyncClient):
    made = await make(vault, description="d")
    where = f"{PATH}/{made['id']}"

    answer = await vault.put(where, json={"value": "new", "id": 77, "version": 9, "nope": 1})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["version"], body["value"], body["description"]) == (2, MASK, "d")
    body = (await vault.put(where, json={"description": None, "name": "renamed"})).json()
    assert (body["version"], body["description"], body["name"]) == (2, None, "renamed")
    assert (await vault.get(where, params={"reveal": 1})).json()["value"] == "new"


async def test_a_deleted_secret_is_gone_and_its_name_free(vault: httpx.AsyncClient):
    made = await make(vault)
    answer = await vault.delete(f"{PATH}/{made['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    for answer in (
        await vault.get(f"{PATH}/{made['id']}"),
        await vault.put(f"{PATH}/{made['id']}", json={}),
        await vault.delete(f"{PATH}/{made['id']}"),
        await vault.post(f"{PATH}/{made['id']}/rotate"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error_code"] == "RES_001"
    await make(vault)


async def test_rotation_makes_and_shows_a_random_value_once(vault: httpx.AsyncClient):
    made = await make(vault)
    where = f"{PATH}/{made['id']}"

    answer = await vault.post(f"{where}/rotate")

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["version"], len(body["value"])) == (2, 32)
    assert body["rotated_at"].endswith("Z")
    assert (await vault.get(where)).json()["value"] == MASK
    assert (await vault.get(where, params={"reveal": True})).json()["value"] == body["value"]
    longer = (await vault.post(f"{where}/rotate", json={"length": 128})).json()
    assert (len(longer["value"]), longer["version"]) == (128, 3)


async def test_rotation_with_a_value_answers_masked_and_may_move_the_date(
    vault: httpx.AsyncClient,
):
    made = await make(vault, expires_at="2020-01-01")
    assert made["is_expired"]
    where = f"{PATH}/{made['id']}"
    body = (
        await vault.post(f"{where}/rotate", json={"value": "mine", "expires_at": "2999-01-01"})
    ).json()
    assert (body["value"], body["is_expired"]) == (MASK, False)
    assert body["expires_at"] == "2999-01-01T00:00:00Z"
    assert (await vault.get(where, params={"reveal": True})).json()["value"] == "mine"


async def test_what_expires_is_listed_soonest_first(vault: httpx.AsyncClient):
    now = datetime.now(UTC)
    for name, days in (("late", 5.5), ("soon", 1.5), ("far", 30), ("gone", -2)):
        await make(vault, name, expires_at=(now + timedelta(days=days)).isoformat())

    answer = await vault.get(f"{PATH}/expiring")
    assert [(one["name"], one["days_until_expiry"]) for one in answer.json()] == [
        ("soon", 2),
        ("late", 6),
    ]
    assert set(answer.json()[0]) == FIELDS | {"days_until_expiry"}
    answer = await vault.get(
        f"{PATH}/expiring", params={"days": 3650, "include_expired": True, "limit": 2}
    )
    assert [one["name"] for one in answer.json()] == ["gone", "soon"]
    assert answer.headers["x-total-count"] == "4"


async def test_a_taken_name_conflicts(vault: httpx.AsyncClient):
    await make(vault, "one")
    other = await make(vault, "two")
    for answer in (
        await vault.post(PATH, json={"name": " one ", "value": "x"}),
        await vault.put(f"{PATH}/{other['id']}", json={"name": "one"}),
    ):
        assert answer.status_code == 409
        assert answer.json()["error_code"] == "RES_002"


async def test_a_secret_in_use_conflicts_and_says_by_what(vault: httpx.AsyncClient):
    made = await make(vault, "openai-prod", value="sk-0123456789abcdef")
    patched = await vault.patch(
        "/settings/providers/openai", json={"api_key": "secret://openai-prod"}
    )
    assert patched.json()["api_key"] == "secret://openai-prod"

    answer = await vault.delete(f"{PATH}/{made['id']}")

    assert answer.status_code == 409
    body = answer.json()
    assert (body["error_code"], body["details"]) == ("RES_003", {"used_by": ["provider openai"]})
    await vault.patch("/settings/providers/openai", json={"api_key": None})
    assert (await vault.delete(f"{PATH}/{made['id']}")).status_code == 204


async def test_a_provider_key_that_refers_to_nothing_is_refused(vault: httpx.AsyncClient):
    answer = await vault.patch("/settings/providers/openai", json={"api_key": "secret://nope"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "api_key"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"value": "x"}, "body.name"),
        ({"name": "x"}, "body.value"),
        ({"name": "", "value": "x"}, "body.name"),
        ({"name": "x" * 256, "value": "x"}, "body.name"),
        ({"name": "x", "value": ""}, "body.value"),
        ({"name": "x", "value": "v" * 65_537}, "body.value"),
        ({"name": "x", "value": 12}, "body.value"),
        ({"name": "x", "value": "a\x00b"}, "body.value"),
        ({"name": "x", "value": "x", "category": "c" * 101}, "body.category"),
        ({"name": "x", "value": "x", "category": None}, "body.category"),
        ({"name": "x", "value": "x", "expires_at": "tomorrow"}, "body.expires_at"),
        ({"name": "x", "value": "x", "description": "d" * 100_001}, "body.description"),
    ],
)
async def test_a_bad_secret_is_refused_naming_the_field_and_nothing_of_the_value(
    vault: httpx.AsyncClient, body: dict[str, object], field: str
):
    answer = await vault.post(PATH, json=body)
    assert answer.status_code == 422
    assert answer.json()["details"]["errors"][0]["field"] == field
    assert "vvvv" not in answer.text
    assert (await vault.get(PATH)).json() == []


@pytest.mark.parametrize("value", ["v", "v" * 65_536, "\N{KEY}" * 65_536, " \n\t "])
async def test_every_allowed_value_comes_back_as_it_was(vault: httpx.AsyncClient, value: str):
    made = await make(vault, value=value)
    answer = await vault.get(f"{PATH}/{made['id']}", params={"reveal": True})
    assert answer.json()["value"] == value


@pytest.mark.parametrize("field", ["name", "value", "category"])
async def test_null_is_refused_where_nothing_may_be_cleared(vault: httpx.AsyncClient, field: str):
    made = await make(vault)
    answer = await vault.put(f"{PATH}/{made['id']}", json={field: None})
    assert answer.status_code == 422
    assert answer.json()["details"]["errors"][0]["field"] == f"body.{field}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/1/rotate?"),
        ("GET", "/expiring?days=0"),
        ("GET", "/expiring?days=3651"),
        ("GET", "/x"),
        ("GET", "/99999999999999999999"),
        ("GET", "/1?reveal=maybe"),
        ("GET", "?limit=201"),
        ("GET", "?offset=-1"),
    ],
)
async def test_parameters_that_do_not_fit_are_refused(
    vault: httpx.AsyncClient, method: str, path: str
):
    await make(vault)
    body = {"length": 15} if method == "POST" else None
    answer = await vault.request(method, PATH + path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error_code"] == "VAL_002"


async def test_a_secret_that_cannot_be_decrypted_says_so_and_nothing_else(
    vault: httpx.AsyncClient, database: Database
):
    made = await make(vault)
    async with database.transaction() as tx:
        await tx.conn.execute(text("UPDATE secret_versions SET ciphertext = 'garbage'"))

    answer = await vault.get(f"{PATH}/{made['id']}", params={"reveal": True})

    assert answer.status_code == 500
    body = answer.json()
    assert body["error_code"] == "SEC_002"
    assert body["detail"].startswith("The secret cannot be decrypted")
    assert body["details"] == {}
    masked = await vault.get(f"{PATH}/{made['id']}")
    assert (masked.status_code, masked.json()["accessed_count"]) == (200, 0)


async def test_without_an_encryption_key_secrets_are_unavailable(client: httpx.AsyncClient):
    answer = await client.post(PATH, json={"name": "x", "value": VALUE})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    body = answer.json()
    assert body["error_name"] == "ENCRYPTION_KEY_MISSING"
    assert VALUE not in json.dumps(body, ensure_ascii=False)
    assert (await client.get(PATH)).json() == []
