"""GET /api/v1/admin/audit."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from conclave.auditing import AuditLog
from conclave.db import Database
from schema.domain.identity import Principal, PrincipalKind, Role
from tests.api.platform.writes import AUDIT, an_agent
from tests.harness.accounts import ADDRESS


async def test_what_is_read_of_an_entry(caller: httpx.AsyncClient):
    agent = await an_agent(caller)
    [entry, *_] = (await caller.get(AUDIT)).json()
    assert (entry["action"], entry["actor_type"]) == ("agent_created", "user")
    assert (entry["resource_type"], entry["resource_id"]) == ("agent", agent)
    assert entry["ip_address"] == ADDRESS
    assert entry["created_at"].endswith("Z")


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
