"""GET /api/v1/admin/audit, and that every write leaves one entry that names its caller."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import text

from conclave.auditing import AuditLog
from conclave.container import Core
from conclave.db import Database
from schema.domain.identity import Principal, PrincipalKind, Role
from schema.tables.base import Base
from tests.api.conftest import forget_settings
from tests.harness.accounts import ADDRESS, OTHER_PASSWORD, PASSWORD, Accounts, Person
from tests.waiting import until

AUDIT = "/api/v1/admin/audit"
ADA, BOB = "ada@example.org", "bob@example.org"
KEY = "sk-secret-provider-key-1234"
REQUEST = "request-7"
UNSTORABLE = "request-whose-entry-cannot-be-stored"


@dataclass
class Site:
    """An application with people in it; `http` sends what Ada, its administrator, sends."""

    accounts: Accounts
    ada: Person

    @property
    def http(self) -> httpx.AsyncClient:
        return self.accounts.client


@pytest.fixture
async def site(accounts: Accounts, accounts_core: Core) -> AsyncIterator[Site]:
    forget_settings(accounts_core)
    ada = await accounts.person(ADA)
    accounts.client.headers["authorization"] = f"Bearer {ada.access}"
    yield Site(accounts, ada)
    await until(lambda: not accounts_core.dispatch._wakes, what="the wake-ups")
    forget_settings(accounts_core)


@pytest.fixture
def caller(site: Site) -> httpx.AsyncClient:
    return site.http


async def made(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def an_agent(http: httpx.AsyncClient) -> str:
    agent = await made(
        http, "/agents", {"name": "Ada", "provider": "openai", "model": "gpt-4o-mini"}
    )
    return str(agent["id"])


async def a_circle(http: httpx.AsyncClient, *moves: str) -> str:
    await made(http, "/circles", {"name": "tea", "display_name": "Tea"})
    for move in moves:
        assert (await http.post(f"/circles/tea/{move}")).status_code == 200
    return "tea"


async def a_started_circle(http: httpx.AsyncClient) -> str:
    return await a_circle(http, "start")


async def a_paused_circle(http: httpx.AsyncClient) -> str:
    return await a_circle(http, "start", "pause")


async def a_member(http: httpx.AsyncClient) -> str:
    await a_circle(http)
    agent = await an_agent(http)
    await made(http, "/circles/tea/agents", {"agent_id": int(agent)})
    return agent


async def a_talk(http: httpx.AsyncClient) -> str:
    agent = await an_agent(http)
    body = {"topic": "kolibri", "agent_ids": [int(agent)], "auto_run": False}
    return str((await made(http, "/conversations", body))["id"])


async def a_memory(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/memory", {"key": "kolibri", "value": "kolibri"}))["id"])


@dataclass
class Call:
    """What is to be sent: the id in the path, the body, and by whom if not by Ada."""

    target: object = ""
    body: dict[str, Any] | None = None
    by: Person | None = None


Prepare = Callable[[Site], Awaitable[Call]]
SECRET = {"name": "db", "value": "hunter2-kolibri"}


def on(
    make: Callable[[httpx.AsyncClient], Awaitable[str]], body: dict[str, Any] | None = None
) -> Prepare:
    """A call about what is made before."""

    async def prepare(site: Site) -> Call:
        return Call(await make(site.http), body)

    return prepare


def at_once(body: dict[str, Any] | None) -> Prepare:
    """A call that needs nothing before it."""

    async def prepare(site: Site) -> Call:
        return Call(body=body)

    return prepare


async def a_member_to_be(site: Site) -> Call:
    await a_circle(site.http)
    return Call(body={"agent_id": int(await an_agent(site.http))})


async def a_talk_to_be(site: Site) -> Call:
    talk = {"topic": "kolibri", "initial_prompt": "kolibri", "auto_run": True}
    return Call(body={**talk, "agent_ids": [int(await an_agent(site.http))]})


async def an_api_key(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/v1/security/api-keys", {"name": "ci"}))["id"])


async def a_secret(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/v1/secrets", SECRET))["id"])


async def a_user(site: Site) -> Call:
    bob = await site.accounts.person(BOB)
    return Call(bob.id, {"role": "viewer"})


async def a_session(site: Site) -> Call:
    bob = await site.accounts.person(BOB)
    sessions = await site.accounts.get(f"/security/sessions?user_id={bob.id}", site.ada.access)
    return Call(sessions.json()[0]["id"])


async def a_newcomer(site: Site) -> Call:
    return Call(body={"email": BOB, "password": PASSWORD}, by=Person(site.ada.id + 1, BOB, {}))


async def a_factor_to_be(site: Site) -> Call:
    setup = await site.accounts.post("/auth/mfa/setup", site.ada.access)
    site.ada.secret = setup.json()["secret"]
    return Call(body={"totp_code": site.accounts.code(site.ada)})


async def a_factor(site: Site) -> Call:
    bob = await site.accounts.with_mfa(BOB)
    return Call(body={"totp_code": site.accounts.code(bob)}, by=bob)


async def a_half_login(site: Site) -> Call:
    bob = await site.accounts.with_mfa(BOB)
    temp_token = await site.accounts.challenge(bob)
    return Call(body={"temp_token": temp_token, "code": site.accounts.code(bob)}, by=bob)


AGENT = {"name": "Bob", "provider": "openai", "model": "gpt-4o-mini"}
MEMORY = {"key": "kolibri", "value": "kolibri"}
PROVIDER = {"api_key": KEY, "default_model": "gpt-4o"}
NEW_USER = {"email": BOB, "password": PASSWORD, "full_name": "Bob"}
NEW_PASSWORD = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
GATHERING: dict[tuple[str, str], tuple[Prepare, str]] = {
    ("POST", "/agents"): (at_once(AGENT), "agent_created"),
    ("PATCH", "/agents/{}"): (on(an_agent, {"model": "gpt-4o"}), "agent_updated"),
    ("DELETE", "/agents/{}"): (on(an_agent), "agent_deleted"),
    ("POST", "/agents/{}/sessions"): (on(an_agent, {}), "conversation_created"),
    ("POST", "/circles"): (at_once({"name": "tea", "display_name": "Tea"}), "circle_created"),
    ("PATCH", "/circles/{}"): (on(a_circle, {"display_name": "Coffee"}), "circle_updated"),
    ("DELETE", "/circles/{}"): (on(a_circle), "circle_deleted"),
    ("POST", "/circles/{}/start"): (on(a_circle), "circle_started"),
    ("POST", "/circles/{}/pause"): (on(a_started_circle), "circle_paused"),
    ("POST", "/circles/{}/resume"): (on(a_paused_circle), "circle_resumed"),
    ("POST", "/circles/{}/archive"): (on(a_circle), "circle_archived"),
    ("POST", "/circles/tea/agents"): (a_member_to_be, "circle_member_added"),
    ("DELETE", "/circles/tea/agents/{}"): (on(a_member), "circle_member_removed"),
    ("POST", "/conversations"): (a_talk_to_be, "conversation_created"),
    ("POST", "/conversations/{}/end"): (on(a_talk), "conversation_ended"),
    ("POST", "/memory"): (at_once(MEMORY), "memory_created"),
    ("DELETE", "/memory/{}"): (on(a_memory), "memory_deleted"),
    ("PATCH", "/settings/providers/openai"): (at_once(PROVIDER), "provider_updated"),
    ("PATCH", "/settings/application"): (at_once({"debug": True}), "settings_updated"),
}
PLATFORM: dict[tuple[str, str], tuple[Prepare, str]] = {
    ("PUT", "/settings/bulk"): (
        at_once({"settings": {"llm.openai_api_key": KEY, "general.max_retries": 7}}),
        "settings_updated",
    ),
    ("PUT", "/settings/llm/openai_api_key"): (at_once({"value": KEY}), "settings_updated"),
    ("PUT", "/security"): (at_once({"lockout": {"max_attempts": 7}}), "security_updated"),
    ("PUT", "/security/password-policy"): (at_once({"min_length": 14}), "security_updated"),
    ("PUT", "/security/ip-rules"): (
        at_once({"rules": [{"cidr": "192.0.2.0/24", "action": "deny"}]}),
        "ip_rules_updated",
    ),
    ("POST", "/security/api-keys"): (at_once({"name": "ci"}), "api_key_created"),
    ("DELETE", "/security/api-keys/{}"): (on(an_api_key), "api_key_revoked"),
    ("DELETE", "/security/sessions/{}"): (a_session, "session_revoked"),
    ("POST", "/admin/users"): (at_once(NEW_USER), "user_created"),
    ("PATCH", "/admin/users/{}"): (a_user, "user_updated"),
    ("POST", "/secrets"): (at_once(SECRET), "secret_created"),
    ("PUT", "/secrets/{}"): (on(a_secret, {"value": "kolibri-2"}), "secret_updated"),
    ("DELETE", "/secrets/{}"): (on(a_secret), "secret_deleted"),
    ("POST", "/secrets/{}/rotate"): (on(a_secret), "secret_rotated"),
    ("POST", "/auth/register"): (a_newcomer, "user_registered"),
    ("POST", "/auth/login"): (at_once({"email": ADA, "password": PASSWORD}), "login_success"),
    ("POST", "/auth/verify-mfa"): (a_half_login, "login_success"),
    ("POST", "/auth/logout"): (at_once({}), "logout"),
    ("PUT", "/auth/me"): (at_once({"full_name": "Countess"}), "user_updated"),
    ("POST", "/auth/change-password"): (at_once(NEW_PASSWORD), "password_changed"),
    ("POST", "/auth/mfa/setup"): (at_once({}), "mfa_setup_begun"),
    ("POST", "/auth/mfa/verify"): (a_factor_to_be, "mfa_enabled"),
    ("POST", "/auth/mfa/disable"): (a_factor, "mfa_disabled"),
}
WRITES = GATHERING | {(method, f"/api/v1{path}"): w for (method, path), w in PLATFORM.items()}
UNRECORDED = {
    ("POST", "/conversations/{}/advance"): "stands in the inbox and the transcript",
    ("POST", "/settings/providers/{}/test"): "changes nothing",
    ("POST", "/codec/encode"): "changes nothing",
    ("POST", "/codec/decode"): "changes nothing",
    ("POST", "/api/v1/auth/refresh"): "goes on with a session that is recorded; a reuse is too",
}
WITHOUT_ID = {"/security", "/security/password-policy", "/security/ip-rules", "/settings/bulk"}
"""What they change exists once."""
SHOWN_ONCE = {"key", "value", "access_token", "refresh_token", "secret", "otpauth_url", "qr_code"}


def test_every_route_that_writes_is_in_the_table(app: FastAPI):
    routes = {
        (method, re.sub(r"\{[^}]*\}", "{}", route.path))
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or set()
        if method != "GET"
    }
    named = re.compile(r"/(tea|llm|openai(_api_key)?)\b")
    told = {(method, named.sub("/{}", path)) for method, path in WRITES}
    assert routes == told | set(UNRECORDED)


async def send(site: Site, write: tuple[str, str], call: Call, request_id: str) -> httpx.Response:
    headers = {"x-request-id": request_id}
    if call.by is not None and call.by.tokens:
        headers["authorization"] = f"Bearer {call.by.access}"
    return await site.http.request(
        write[0], write[1].format(call.target), json=call.body, headers=headers
    )


@pytest.mark.parametrize("write", WRITES, ids=" ".join)
async def test_a_write_leaves_one_entry_that_names_the_caller(site: Site, write: tuple[str, str]):
    prepare, action = WRITES[write]
    call = await prepare(site)
    before = await site.accounts.value("SELECT count(*) FROM audit_entries")
    answer = await send(site, write, call, REQUEST)
    assert answer.is_success, answer.text

    entries = await site.accounts.audited(action)
    assert await site.accounts.value("SELECT count(*) FROM audit_entries") == before + 1
    entry = entries[-1]
    assert (entry["actor_type"], entry["actor_id"]) == ("user", (call.by or site.ada).id)
    assert (entry["ip_address"], entry["request_id"]) == (ADDRESS, REQUEST)
    assert entry["resource_id"] or write[1].removeprefix("/api/v1") in WITHOUT_ID
    for secret in ("kolibri", KEY, PASSWORD, OTHER_PASSWORD, *shown_once(answer), *sent(call)):
        assert secret not in str(entry)


def shown_once(answer: httpx.Response) -> list[str]:
    body = answer.json() if answer.content else {}
    if isinstance(body, list) or "/settings/" in answer.url.path:  # a key there is a name
        return []
    return [
        *body.get("backup_codes", []),
        *(body[name] for name in SHOWN_ONCE & set(body) if isinstance(body[name], str)),
    ]


def sent(call: Call) -> list[str]:
    codes = ("totp_code", "code", "temp_token")
    return [call.body[name] for name in codes if name in (call.body or {})] if call.body else []


@pytest.fixture
async def refusing_database(clean_database: Database) -> AsyncIterator[Database]:
    """Takes no entry of the request UNSTORABLE."""

    async def change(statement: str) -> None:
        async with clean_database.transaction() as tx:
            await tx.conn.execute(text(f"ALTER TABLE audit_entries {statement}"))

    await change(f"ADD CONSTRAINT unstorable CHECK (request_id <> '{UNSTORABLE}')")
    yield clean_database
    await change("DROP CONSTRAINT unstorable")


@pytest.mark.parametrize("write", WRITES, ids=" ".join)
async def test_a_write_whose_entry_cannot_be_stored_does_not_happen(
    site: Site, refusing_database: Database, write: tuple[str, str]
):
    prepare, _ = WRITES[write]
    call = await prepare(site)
    before = await everything(refusing_database)
    answer = await send(site, write, call, UNSTORABLE)
    assert answer.status_code == 500
    assert await everything(refusing_database) == before


async def test_what_is_read_of_an_entry(caller: httpx.AsyncClient):
    agent = await an_agent(caller)
    [entry, *_] = (await caller.get(AUDIT)).json()
    assert (entry["action"], entry["actor_type"]) == ("agent_created", "user")
    assert (entry["resource_type"], entry["resource_id"]) == ("agent", agent)
    assert entry["ip_address"] == ADDRESS
    assert entry["created_at"].endswith("Z")


async def everything(db: Database) -> dict[str, object]:
    """Return every row of every table."""
    async with db.transaction() as tx:
        return {
            table.name: await tx.conn.scalar(
                text(f"SELECT json_agg(t ORDER BY t::text) FROM {table.name} AS t")
            )
            for table in Base.metadata.sorted_tables
        }


async def test_a_refused_write_leaves_no_entry(client: httpx.AsyncClient):
    await a_circle(client)
    assert (await client.post("/circles/tea/resume")).status_code == 409
    assert (await client.post("/circles", json={"name": "tea", "display_name": "T"})).is_error
    assert (await client.delete("/agents/99")).status_code == 404
    assert [entry["action"] for entry in (await client.get(AUDIT)).json()] == ["circle_created"]


async def test_a_conversation_that_stores_nothing_leaves_no_entry(client: httpx.AsyncClient):
    body = {"topic": "t", "agent_ids": [99], "auto_run": False}
    assert (await client.post("/conversations", json=body)).is_error
    assert (await client.get(AUDIT)).json() == []


async def test_a_key_is_told_as_given_and_nothing_more(caller: httpx.AsyncClient):
    path = "/settings/providers/openai"
    await caller.patch(path, json={"api_key": KEY, "base_url": None})
    await caller.patch(path, json={"api_key": None, "default_model": "gpt-4o"})
    second, first, *_ = (await caller.get(AUDIT)).json()
    assert first["changes"] == {"api_key": {"before": None, "after": "***"}}
    assert second["changes"] == {
        "api_key": {"before": "***", "after": None},
        "default_model": {"before": None, "after": "gpt-4o"},
    }


async def test_an_update_tells_what_was_and_what_is(client: httpx.AsyncClient):
    agent = await an_agent(client)
    await client.patch(f"/agents/{agent}", json={"model": "gpt-4o", "background": {"a": "b" * 600}})
    [entry, _] = (await client.get(AUDIT)).json()
    assert entry["resource_type"] == "agent"
    assert entry["resource_id"] == agent
    assert entry["changes"] == {
        "background": {"before": {}, "after": "(609 characters of JSON)"},
        "model": {"before": "gpt-4o-mini", "after": "gpt-4o"},
    }


async def filled(db: Database) -> None:
    """Entries 1 to 6: a1 b2 a3 b1 a2 b3, ids in that order."""
    log = AuditLog()
    for action, actor in (("a", 1), ("b", 2), ("a", 3), ("b", 1), ("a", 2), ("b", 3)):
        async with db.transaction() as tx:
            by = Principal(kind=PrincipalKind.API_KEY, id=actor, role=Role.VIEWER)
            await log.record(tx, f"tea_{action}", f"type_{action}", actor, principal=by)


@pytest.mark.parametrize(
    ("query", "ids", "total"),
    [
        ({}, [6, 5, 4, 3, 2, 1], "6"),
        ({"limit": 2}, [6, 5], "6"),
        ({"limit": 2, "offset": 3}, [3, 2], "6"),
        ({"limit": 2, "skip": 5}, [1], "6"),
        ({"action": "tea_a"}, [5, 3, 1], "3"),
        ({"resource_type": "type_b"}, [6, 4, 2], "3"),
        ({"actor_id": 3}, [6, 3], "2"),
        ({"actor_id": "3", "action": "tea_b", "limit": 1}, [6], "1"),
        ({"action": "tea"}, [], "0"),
        ({"since": "2000-01-01"}, [6, 5, 4, 3, 2, 1], "6"),
        ({"since": "2199-01-01T00:00:00+02:00"}, [], "0"),
        ({"until": "2000-01-01T00:00:00"}, [], "0"),
        ({"until": "2199-01-01T00:00:00Z", "limit": 1}, [6], "6"),
    ],
)
async def test_filters_and_paging(
    client: httpx.AsyncClient,
    clean_database: Database,
    query: dict[str, Any],
    ids: list[int],
    total: str,
):
    await filled(clean_database)
    answer = await client.get(AUDIT, params=query)
    assert [entry["id"] for entry in answer.json()] == ids
    assert answer.headers["X-Total-Count"] == total


async def test_since_counts_in_and_until_does_not(
    client: httpx.AsyncClient, clean_database: Database
):
    await filled(clean_database)
    entries = (await client.get(AUDIT)).json()
    query = {"since": entries[3]["created_at"], "until": entries[1]["created_at"]}
    assert (await client.get(AUDIT, params=query)).json() == entries[2:4]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 501},
        {"offset": -1},
        {"actor_id": "x"},
        {"actor_id": 0},
        {"actor_id": 2**63},
        {"since": "yesterday"},
        {"until": ""},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"action": "x" * 65},
        {"action": "a\x00b"},
    ],
)
async def test_a_query_that_does_not_fit_is_refused(
    client: httpx.AsyncClient, query: dict[str, Any]
):
    answer = await client.get(AUDIT, params=query)
    assert answer.status_code == 422
    assert answer.json()["error_code"].startswith("VAL_")
    assert answer.json()["details"]["errors"]
