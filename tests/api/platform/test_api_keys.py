"""/api/v1/security/api-keys over HTTP, for people with accounts."""

from __future__ import annotations

import httpx
import pytest

from conclave.container import Core
from conclave.db import Database
from schema.domain.identity import GATEWAY_PRINCIPAL, Principal, Role
from tests.core.test_api_keys import user
from tests.fakes.callers import FakeAuthenticator, token_of

PATH = "/api/v1/security/api-keys"


class As:
    """Whose token the client shows."""

    def __init__(self, authenticator: FakeAuthenticator) -> None:
        self._known = authenticator.known

    def is_now(self, principal: Principal) -> Principal:
        self._known[token_of("admin")] = principal
        return principal


@pytest.fixture
def caller(authenticator: FakeAuthenticator) -> As:
    return As(authenticator)


async def test_a_key_is_shown_once_listed_without_it_and_revoked(
    client: httpx.AsyncClient, caller: As, database: Database, core: Core
):
    principal = caller.is_now(await user(database))

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
        "user_id": principal.user_id,
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
    caller.is_now(await user(database))

    answer = await client.post(PATH, json=body)

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["details"]["errors"]] == [field]


async def test_what_is_not_allowed_is_403(
    client: httpx.AsyncClient, caller: As, database: Database
):
    caller.is_now(GATEWAY_PRINCIPAL)
    assert (await client.post(PATH, json={"name": "x"})).status_code == 403
    caller.is_now(await user(database, Role.VIEWER))

    refused = await client.post(PATH, json={"name": "x", "scopes": ["read", "write"]})

    assert (refused.status_code, refused.json()["error_code"]) == (403, "AUTH_005")
    assert (await client.get(PATH, params={"all": "true"})).status_code == 403
    assert (await client.get(PATH, params={"limit": 0})).status_code == 422
    assert (await client.delete(f"{PATH}/77")).status_code == 404
    caller.is_now(await user(database, Role.ADMIN))
    assert (await client.get(PATH, params={"all": "true"})).json() == []


async def test_a_key_of_somebody_else_is_not_there(
    client: httpx.AsyncClient, caller: As, database: Database
):
    owner = caller.is_now(await user(database))
    key_id = (await client.post(PATH, json={"name": "mine"})).json()["id"]
    caller.is_now(await user(database))

    assert (await client.get(PATH)).json() == []
    assert (await client.delete(f"{PATH}/{key_id}")).status_code == 404

    caller.is_now(owner)
    assert [one["status"] for one in (await client.get(PATH)).json()] == ["active"]
