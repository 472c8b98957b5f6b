"""/api/v1/security/ip-rules."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from api.app import create_app
from conclave.container import Core
from conclave.settings import AuthMode
from tests.fakes.callers import CALLERS, bearer

PATH = "/api/v1/security/ip-rules"


@asynccontextmanager
async def calling_from(address: str, core: Core) -> AsyncGenerator[httpx.AsyncClient]:
    """The administrator at that address."""
    settings = core.settings.model_copy(update={"auth_mode": AuthMode.REQUIRED})
    transport = httpx.ASGITransport(app=create_app(settings, core), client=(address, 40_000))
    async with httpx.AsyncClient(
        transport=transport, base_url="https://conclave.example", headers=bearer("admin")
    ) as client:
        yield client


async def listed(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    answer = await client.get(PATH)
    assert answer.status_code == 200
    assert answer.headers["x-total-count"] == str(len(answer.json()))
    return [(rule["action"], rule["cidr"]) for rule in answer.json()]


async def test_the_whole_list_is_replaced_and_answered_in_its_order(client: httpx.AsyncClient):
    answer = await client.put(
        PATH,
        json={
            "rules": [
                {"cidr": "10.1.2.3/8", "action": "deny", "description": "inside"},
                {"cidr": "9.9.9.9"},
                {"cidr": "2001:db8::1"},
            ]
        },
    )

    assert answer.status_code == 200
    first = answer.json()[0]
    assert set(first) == {"id", "cidr", "action", "description", "created_by", "created_at"}
    assert (first["description"], first["created_by"]) == ("inside", CALLERS["admin"].user_id)
    assert first["created_at"].endswith("Z")
    assert await listed(client) == [
        ("deny", "10.0.0.0/8"),
        ("allow", "9.9.9.9/32"),
        ("allow", "2001:db8::1/128"),
    ]
    await client.put(PATH, json=[{"cidr": "1.1.1.1", "action": "deny"}])
    assert await listed(client) == [("deny", "1.1.1.1/32")]
    assert (await client.put(PATH, json=[])).json() == []
    assert await listed(client) == []


async def test_a_bare_array_and_two_lists_are_taken_too(client: httpx.AsyncClient):
    await client.put(PATH, json=[{"cidr": "::ffff:10.1.2.3", "action": "deny"}])
    assert await listed(client) == [("deny", "10.1.2.3/32")]
    await client.put(PATH, json={"allowlist": ["9.0.0.0/8"], "blocklist": ["9.9.9.9"]})
    assert await listed(client) == [("deny", "9.9.9.9/32"), ("allow", "9.0.0.0/8")]
    await client.put(PATH, json={"blocklist": ["8.8.8.8"]})
    assert await listed(client) == [("deny", "8.8.8.8/32")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rules": [{"cidr": "1.1.1.1"}, {"cidr": "nonsense"}]}, "body.rules.1.cidr"),
        ([{"cidr": "10.0.0.0/33"}], "body.rules.0.cidr"),
        ([{"cidr": ""}], "body.rules.0.cidr"),
        ([{"cidr": "1" * 65}], "body.rules.0.cidr"),
        ([{"action": "deny"}], "body.rules.0.cidr"),
        ([{"cidr": "1.1.1.1", "action": "maybe"}], "body.rules.0.action"),
        ([{"cidr": "1.1.1.1", "description": "d" * 1001}], "body.rules.0.description"),
        ([1], "body.rules.0"),
        ({"allowlist": ["x"]}, "body.rules.0.cidr"),
        ({"allowlist": "1.1.1.1"}, "body"),
        ({"allowlist": [1]}, "body.rules.0.cidr"),
        ({}, "body.rules"),
        ({"rules": None}, "body.rules"),
        ([{"cidr": f"10.0.{n // 256}.{n % 256}"} for n in range(1001)], "body.rules"),
    ],
)
async def test_a_bad_list_names_the_field_and_replaces_nothing(
    client: httpx.AsyncClient, body: object, field: str
):
    await client.put(PATH, json=[{"cidr": "8.8.8.8", "action": "deny"}])

    answer = await client.put(PATH, json=body)

    assert answer.status_code == 422, answer.text
    assert answer.json()["details"]["errors"][0]["field"] == field
    assert await listed(client) == [("deny", "8.8.8.8/32")]


async def test_a_thousand_rules_fit(client: httpx.AsyncClient):
    sent = [{"cidr": f"10.0.{n // 256}.{n % 256}", "action": "deny"} for n in range(1000)]

    answer = await client.put(PATH, json=sent)

    assert [rule["cidr"] for rule in answer.json()] == [f"{rule['cidr']}/32" for rule in sent]


async def test_rules_that_shut_out_the_caller_conflict_unless_forced(
    client: httpx.AsyncClient, core: Core
):
    async with calling_from("9.9.9.9", core) as admin:
        for harmful in ([{"cidr": "9.0.0.0/8", "action": "deny"}], [{"cidr": "1.1.1.1"}]):
            answer = await admin.put(PATH, json=harmful)
            assert answer.status_code == 409
            assert "would shut out the caller" in answer.json()["detail"]
        assert await listed(admin) == []
        forced = await admin.put(PATH, params={"force": "true"}, json=[{"cidr": "1.1.1.1"}])
        assert forced.status_code == 200
        assert (await admin.get(PATH)).status_code == 403
    assert (await client.put(PATH, json=[{"cidr": "2.2.2.2"}])).status_code == 200
