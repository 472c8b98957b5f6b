"""/api/v1/circuit-breakers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from conclave.container import Core
from conclave.errors import CircuitOpen, ProviderUnavailable
from conclave.ports.breakers import Verdict
from tests.fakes.callers import bearer

PATH = "/api/v1/circuit-breakers"
FIELDS = {
    "name", "state", "forced", "failure_count", "success_count", "total_successes",
    "total_failures", "success_rate", "last_failure", "opened_at", "next_attempt_at",
    "failure_threshold", "recovery_timeout_seconds", "success_threshold", "window_seconds",
    "half_open_max_requests", "transitions",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_known(core: Core) -> None:
    """The tables were emptied: what was seen of them before does not hold."""
    core.breakers.forget()


async def made(client: httpx.AsyncClient, name: str = "mail", **fields: Any) -> Any:
    answer = await client.post(PATH, json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def fail(core: Core, name: str) -> None:
    permit = await core.breakers.admit(name, lasts=30)
    with pytest.raises(ProviderUnavailable):
        async with core.breakers.watched(permit, lambda _: Verdict.FAILED):
            raise ProviderUnavailable("it is down")


async def test_a_new_one_is_closed_with_defaults(client: httpx.AsyncClient):
    breaker = await made(client)
    assert breaker.keys() == FIELDS
    assert breaker == {
        "name": "mail", "state": "closed", "forced": False, "failure_count": 0,
        "success_count": 0, "total_successes": 0, "total_failures": 0, "success_rate": 100.0,
        "last_failure": None, "opened_at": None, "next_attempt_at": None,
        "failure_threshold": 5, "recovery_timeout_seconds": 60, "success_threshold": 3,
        "window_seconds": 120, "half_open_max_requests": 3, "transitions": [],
    }  # fmt: skip
    assert (await client.get(f"{PATH}/mail")).json() == breaker
    listed = await client.get(f"{PATH}/")
    assert (listed.json(), listed.headers["x-total-count"]) == ([breaker], "1")


async def test_one_that_exists_is_configured_and_keeps_its_state(client: httpx.AsyncClient):
    await made(client, "llm:openai", failure_threshold=7)
    await client.post(f"{PATH}/llm:openai/force-open", json={})
    answer = await client.post(PATH, json={"name": "llm:openai", "window_seconds": 30})
    assert answer.status_code == 200
    breaker = answer.json()
    assert (breaker["failure_threshold"], breaker["window_seconds"]) == (7, 30)
    assert (breaker["state"], breaker["forced"]) == ("open", True)
    assert (await client.get(f"{PATH}/llm:openai")).json() == breaker


async def test_the_list_is_newest_first_and_in_pieces(client: httpx.AsyncClient):
    for name in ("a", "b", "c"):
        await made(client, name)
    answer = await client.get(PATH, params={"limit": 2})
    assert [one["name"] for one in answer.json()] == ["c", "b"]
    assert answer.headers["x-total-count"] == "3"
    rest = await client.get(PATH, params={"offset": 2})
    assert [one["name"] for one in rest.json()] == ["a"]
    assert (await client.get(PATH, params={"limit": 0})).status_code == 422


async def test_forced_open_refuses_calls_until_it_is_forced_closed(
    client: httpx.AsyncClient, core: Core
):
    await made(client)
    opened = await client.post(f"{PATH}/mail/force-open", json={"reason": "moving"})
    assert opened.status_code == 200
    assert opened.json()["state"] == "open"
    assert opened.json()["opened_at"].endswith("Z")
    [told] = opened.json()["transitions"]
    assert (told["from_state"], told["to_state"]) == ("closed", "open")
    assert told["reason"] == "forced open: moving"
    assert told["timestamp"].endswith("Z")
    with pytest.raises(CircuitOpen):
        await core.breakers.admit("mail", lasts=30)
    closed = await client.post(f"{PATH}/mail/force-close")
    assert closed.status_code == 200
    assert (closed.json()["state"], closed.json()["forced"]) == ("closed", False)
    assert (await client.get(f"{PATH}/mail")).json() == closed.json()
    await core.breakers.admit("mail", lasts=30)


async def test_failures_show_and_a_reset_clears_them(client: httpx.AsyncClient, core: Core):
    await made(client, failure_threshold=2)
    await fail(core, "mail")
    await fail(core, "mail")
    breaker = (await client.get(f"{PATH}/mail")).json()
    assert (breaker["state"], breaker["failure_count"], breaker["success_rate"]) == ("open", 2, 0)
    assert breaker["next_attempt_at"] > breaker["opened_at"]
    assert breaker["last_failure"].endswith("Z")
    answer = await client.post(f"{PATH}/mail/reset")
    assert answer.status_code == 200
    reset = answer.json()
    assert (reset["state"], reset["failure_count"], reset["total_failures"]) == ("closed", 0, 0)
    assert (reset["last_failure"], reset["failure_threshold"]) == (None, 2)
    assert (await client.get(f"{PATH}/mail")).json() == reset


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.name"),
        ({"name": ""}, "body.name"),
        ({"name": "Mail"}, "body.name"),
        ({"name": "-mail"}, "body.name"),
        ({"name": "mail\n"}, "body.name"),
        ({"name": "a" * 101}, "body.name"),
        ({"name": "mail", "failure_threshold": 0}, "body.failure_threshold"),
        ({"name": "mail", "failure_threshold": 1001}, "body.failure_threshold"),
        ({"name": "mail", "recovery_timeout_seconds": 86_401}, "body.recovery_timeout_seconds"),
        ({"name": "mail", "success_threshold": 101}, "body.success_threshold"),
        ({"name": "mail", "window_seconds": 0}, "body.window_seconds"),
        ({"name": "mail", "half_open_max_requests": None}, "body.half_open_max_requests"),
    ],
)
async def test_what_does_not_fit_is_named(client: httpx.AsyncClient, body: Any, field: str):
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 422
    assert [flaw["field"] for flaw in answer.json()["details"]["errors"]] == [field]
    assert (await client.get(PATH)).json() == []


@pytest.mark.parametrize("move", ["", "/force-open", "/force-close", "/reset"])
async def test_one_that_nobody_used_is_not_found(client: httpx.AsyncClient, move: str):
    method = "POST" if move else "GET"
    answer = await client.request(method, f"{PATH}/nobody{move}")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RES_001")
    answer = await client.request(method, f"{PATH}/NOT-A-NAME{move}")
    assert answer.status_code == 422


@pytest.mark.parametrize("caller", ["viewer", "operator"])
async def test_they_are_for_administrators(outside: httpx.AsyncClient, caller: str):
    assert (await outside.get(PATH, headers=bearer(caller))).status_code == 403
    answer = await outside.post(PATH, json={"name": "mail"}, headers=bearer(caller))
    assert answer.status_code == 403
