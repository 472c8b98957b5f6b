"""/api/v1/security/api-keys over HTTP, whoever the access layer says is asking."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from api.app import DIALECTS
from api.errors import install
from api.platform.routes import api_keys
from conclave.container import Core
from conclave.db import Database
from schema.domain.identity import Principal, Role
from tests.core.test_api_keys import user

PATH = "/api/v1/security/api-keys"


class As:
    """The routes alone, with a caller that the test names."""

    def __init__(self, core: Core) -> None:
        self.principal = Principal.model_validate({"kind": "local", "role": "admin"})
        self._app = FastAPI()
        self._app.router.routes.extend(api_keys.router.routes)
        self._app.state.core = core
        install(self._app, DIALECTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "principal": self.principal}, receive, send)


@pytest.fixture
def caller(core: Core, clean_database: Database) -> As:
    return As(core)


@pytest.fixture
async def client(caller: As) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=caller)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


async def test_a_key_is_shown_once_listed_without_it_and_revoked(
    client: httpx.AsyncClient, caller: As, database: Database, core: Core
):
    caller.principal = await user(database)

    made = await client.post(PATH, json={"name": " ci ", "expires_at": "2999-01-01"})

    assert made.status_code == 201
    body = made.json()
    key = body.pop("key")
    assert body.pop("message")
    assert body == {
        "id": 1,
        "name": "ci",
        "key_prefix": key[:12],
        "scopes": ["read"],
        "status": "active",
        "user_id": caller.principal.user_id,
        "expires_at": "2999-01-01T00:00:00Z",
        "last_used_at": None,
        "created_at": body["created_at"],
    }
    assert (await core.api_keys.verify(key)).role is Role.VIEWER
    listed = await client.get(PATH)
    assert listed.headers["X-Total-Count"] == "1"
    (row,) = listed.json()
    assert row == {**body, "last_used_at": row["last_used_at"]}
    assert row["last_used_at"]
    assert (await client.delete(f"{PATH}/1")).status_code == 204
    assert (await client.get(PATH)).json()[0]["status"] == "revoked"
    assert (await client.delete(f"{PATH}/1")).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.name"),
        ({"name": " "}, "body.name"),
        ({"name": "x" * 101}, "body.name"),
        ({"name": "x", "scopes": []}, "body.scopes"),
        ({"name": "x", "scopes": ["root"]}, "body.scopes.0"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "body.expires_at"),
        ({"name": "x", "expires_at": "soon"}, "body.expires_at"),
    ],
)
async def test_what_does_not_fit_is_named(
    client: httpx.AsyncClient, caller: As, database: Database, body: object, field: str
):
    caller.principal = await user(database)

    answer = await client.post(PATH, json=body)

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["details"]["errors"]] == [field]


async def test_what_is_not_allowed_is_403(
    client: httpx.AsyncClient, caller: As, database: Database
):
    assert (await client.post(PATH, json={"name": "x"})).status_code == 403
    caller.principal = await user(database, Role.VIEWER)

    refused = await client.post(PATH, json={"name": "x", "scopes": ["read", "write"]})

    assert (refused.status_code, refused.json()["error_code"]) == (403, "AUTH_005")
    assert (await client.get(PATH, params={"all": "true"})).status_code == 403
    assert (await client.get(PATH, params={"limit": 0})).status_code == 422
    assert (await client.delete(f"{PATH}/77")).status_code == 404
    caller.principal = await user(database, Role.ADMIN)
    assert (await client.get(PATH, params={"all": "true"})).json() == []
