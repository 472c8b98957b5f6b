"""/api/permissions and /api/config/sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.gateway.conftest import Desk

TOOLS = ["glimpse", "keep", "look", "peek", "send", "wait"]


async def test_permissions_are_read_by_users_and_changed_by_admins(desk: Desk):
    before = {"mode": "interactive", "tool_overrides": {}}
    assert await desk.ok("GET", "/api/permissions", "viewer") == before
    assert await desk.ok("GET", "/api/permissions/tools", "viewer") == {"tools": TOOLS}
    refused = await desk.call("PUT", "/api/permissions", "operator", mode="autonomous")
    assert refused.status_code == 403
    after = await desk.ok("PUT", "/api/permissions", tool_overrides={"send": "deny"})
    assert after == {"mode": "interactive", "tool_overrides": {"send": "deny"}}
    after = await desk.ok("PUT", "/api/permissions", mode="readonly")
    assert after == {"mode": "readonly", "tool_overrides": {"send": "deny"}}
    assert await desk.ok("GET", "/api/permissions") == after
    after = await desk.ok("PUT", "/api/permissions", tool_overrides={"look": "allow"})
    assert after["tool_overrides"] == {"look": "allow"}
    after = await desk.ok("PUT", "/api/permissions", tool_overrides={})
    assert after == {"mode": "readonly", "tool_overrides": {}}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"mode": "wild"}, "autonomous"),
        ({"tool_overrides": {"fly": "allow"}}, "look"),
        ({"tool_overrides": {"look": "maybe"}}, "deny"),
    ],
)
async def test_what_is_unknown_is_400_and_names_what_there_is(desk: Desk, body: Any, named: str):
    answer = await desk.call("PUT", "/api/permissions", **body)
    assert answer.status_code == 400
    assert named in answer.json()["detail"]
    assert (await desk.ok("GET", "/api/permissions"))["tool_overrides"] == {}


async def test_what_does_not_fit_is_422(desk: Desk):
    bodies: list[Any] = [{"mode": 5}, {"tool_overrides": []}, {"tool_overrides": {"look": 5}}]
    for body in bodies:
        assert (await desk.call("PUT", "/api/permissions", **body)).status_code == 422


async def test_the_sandbox_is_shown_and_changed(desk: Desk):
    shown = await desk.ok("GET", "/api/config/sandbox", "viewer")
    assert shown == {
        "enabled": True, "memory_limit": "512m", "cpu_quota": 1.0, "timeout_seconds": 30,
        "network_enabled": False, "workspace_mode": "rw", "backend": "bubblewrap",
        "available": True,
    }  # fmt: skip
    changed = await desk.ok("PUT", "/api/config/sandbox", memory_limit="1g", workspace_mode="ro")
    assert (changed["memory_limit"], changed["workspace_mode"]) == ("1g", "ro")
    assert changed["timeout_seconds"] == 30
    refused = await desk.call("PUT", "/api/config/sandbox", "operator", enabled=False)
    assert refused.status_code == 403
    bodies: list[Any] = [{"memory_limit": "much"}, {"cpu_quota": 0}, {"workspace_mode": "x"}]
    for body in bodies:
        assert (await desk.call("PUT", "/api/config/sandbox", **body)).status_code == 422


async def test_the_older_switch_of_the_sandbox(desk: Desk):
    assert await desk.ok("GET", "/api/sandbox") == {"enabled": True}
    assert await desk.ok("POST", "/api/sandbox", enabled=False) == {"enabled": False}
    assert (await desk.ok("GET", "/api/config/sandbox"))["enabled"] is False
    assert await desk.ok("POST", "/api/sandbox/build") == {"built": True}
    desk.sandbox.works = False
    broken = await desk.call("POST", "/api/sandbox/build")
    assert (broken.status_code, broken.json()) == (500, {"detail": "as a test says"})
