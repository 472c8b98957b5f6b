"""Every write leaves one entry that names its caller, or does not happen."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import text

from conclave.container import Core
from conclave.db import Database
from schema.tables.base import Base
from tests.api.platform.writes import AUDIT, KEY, UNRECORDED, WRITES, Call, Site, a_circle, an_agent
from tests.harness.accounts import ADDRESS, OTHER_PASSWORD, PASSWORD
from tests.waiting import until

REQUEST = "request-7"
UNSTORABLE = "request-whose-entry-cannot-be-stored"


WITHOUT_ID = {
    "/security",
    "/security/password-policy",
    "/security/ip-rules",
    "/settings/bulk",
    "/api/permissions",
    "/api/config/sandbox",
    "/cost/budget",
}
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
    named = re.compile(r"/(tea|1|llm|openai(_api_key)?)\b")
    told = {(method, named.sub("/{}", path)) for method, path in WRITES}
    assert routes == told | set(UNRECORDED)


async def send(site: Site, write: tuple[str, str], call: Call, request_id: str) -> httpx.Response:
    headers = {"x-request-id": request_id}
    if call.by is not None and call.by.tokens:
        headers["authorization"] = f"Bearer {call.by.access}"
    path = write[1].format(call.target)
    if call.file is not None:
        form = {"file": ("tea.txt", call.file)}
        return await site.http.request(write[0], path, files=form, headers=headers)
    return await site.http.request(write[0], path, json=call.body, headers=headers)


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
    site: Site, accounts_core: Core, refusing_database: Database, write: tuple[str, str]
):
    prepare, _ = WRITES[write]
    call = await prepare(site)
    await until(lambda: accounts_core.errands.is_idle, what="the errands")
    before = await everything(refusing_database)
    answer = await send(site, write, call, UNSTORABLE)
    assert answer.status_code == 500
    assert await everything(refusing_database) == before


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
