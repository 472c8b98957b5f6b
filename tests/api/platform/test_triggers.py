"""/api/v1/triggers over HTTP: each type and action, what is refused, what the engine is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.platform.schemas.triggers import FiringOut, TriggerDetailOut, TriggerMadeOut, TriggerOut
from conclave.db import Database
from conclave.settings import Settings
from schema.payloads.triggers import ActInput, ClaimInput
from tests.api.platform.triggering import PATH, TASK, Site, running_site
from tests.harness.errands import lose

CRON = {"cron_expression": "30 2 * * *", "timezone": "Europe/Berlin"}
CALL = {"url": "https://example.org/hook", "headers": {"Authorization": "Bearer kolibri"}}


@pytest.fixture
async def site(api_settings: Settings, clean_database: Database) -> AsyncIterator[Site]:
    async with running_site(api_settings) as site:
        yield site


async def test_a_cron_trigger_has_a_schedule_in_its_zone(site: Site):
    made = await site.make("cron", CRON)
    TriggerMadeOut.model_validate(made)
    schedule = site.engine.schedules[made["id"]]
    assert schedule.calendar is not None
    assert [(span.start, span.end) for span in schedule.calendar.minutes] == [(30, 30)]
    assert [(span.start, span.end) for span in schedule.calendar.hours] == [(2, 2)]
    assert schedule.calendar.days_of_week == []
    assert (schedule.time_zone, schedule.is_paused) == ("Europe/Berlin", False)
    shown = await site.get(made["id"])
    TriggerDetailOut.model_validate(shown)
    assert shown["next_fire_at"] == "2030-01-01T00:00:00Z"
    assert shown["config"] == {**CRON, "catch_up": False, "jitter_seconds": 0}
    assert shown["stats"]["total_executions"] == 0


async def test_a_cron_that_fixes_the_minute_alone_runs_on_utc(site: Site):
    made = await site.make("cron", {"cron": "*/15 * * * *", "timezone": "Europe/Berlin"})
    assert site.engine.schedules[made["id"]].time_zone == "UTC"
    made = await site.make("cron", {"cron": "0 * * * *", "timezone": "Asia/Kolkata"})
    assert site.engine.schedules[made["id"]].time_zone == "Asia/Kolkata"


async def test_names_of_the_repo_are_accepted(site: Site):
    body = {
        "name": "t",
        "trigger_type": "schedule",
        "config": {"expression": "0 9 * * MON-FRI"},
        "action_type": "create_task",
        "action_config": {"title": "x"},
        "enabled": False,
    }
    answer = await site.http.post(PATH, json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["type"], made["is_active"]) == ("cron", False)
    flat = {**body, "action": {"type": "create_task", "title": "y"}}
    made = (await site.http.post(PATH, json=flat)).json()
    assert made["action"]["config"]["title"] == "y"


@pytest.mark.parametrize(
    ("kind", "config", "field"),
    [
        ("cron", {"cron_expression": "0 0 L * *"}, "config.cron_expression"),
        ("cron", {"cron_expression": "0 0 * * 5#2"}, "config.cron_expression"),
        ("cron", {"cron_expression": "0 0 1 * 1"}, "config.cron_expression"),
        ("cron", {"cron_expression": "0 0 15W * *"}, "config.cron_expression"),
        ("cron", {"cron_expression": "0 0 0 * * *"}, "config.cron_expression"),
        ("cron", {"cron_expression": "@daily"}, "config.cron_expression"),
        ("cron", {"cron_expression": "0 0 30 2 *"}, "config.cron_expression"),
        ("cron", {"cron_expression": "0 22-4 * * *"}, "config.cron_expression"),
        ("cron", {"cron_expression": "0 0 * * FRI-MON"}, "config.cron_expression"),
        ("cron", {"cron_expression": "61 0 * * *"}, "config.cron_expression"),
        ("cron", {"cron_expression": "H 0 * * *"}, "config.cron_expression"),
        ("cron", {"cron_expression": "*/0 0 * * *"}, "config.cron_expression"),
        ("cron", {"cron_expression": "0 0 * * foo"}, "config.cron_expression"),
        ("cron", {}, "config.cron_expression"),
        ("cron", {**CRON, "timezone": "Mars/Olympus"}, "config.timezone"),
        ("cron", {**CRON, "timezone": "../etc/passwd"}, "config.timezone"),
        ("interval", {"every_seconds": 9}, "config.every_seconds"),
        ("interval", {}, "config.every_seconds"),
        ("event", {"event_type": "task.nothing"}, "config.event_type"),
        ("event", {"event_type": "x.*"}, "config.event_type"),
        ("event", {}, "config.event_type"),
        ("webhook", {"slug": "github"}, "config.slug"),
        ("webhook", {"slug": "jira-default"}, "config.slug"),
        ("webhook", {"slug": "A"}, "config.slug"),
        ("webhook", {"secret": "***"}, "config.secret"),
        ("webhook", {"secret": "secret://nothing"}, "config.secret"),
        ("threshold", {"metric": "moods", "threshold": 1}, "config.metric"),
        ("threshold", {"metric": "queue_depth"}, "config.threshold"),
        ("threshold", {"metric": "queue_depth", "threshold": "high"}, "config.threshold"),
        (
            "threshold",
            {"metric": "queue_depth", "threshold": 1, "check_every_seconds": 9},
            "config.check_every_seconds",
        ),
    ],
)
async def test_a_config_that_does_not_fit_is_refused_by_its_field(
    site: Site, kind: str, config: dict[str, Any], field: str
):
    answer = await site.http.post(
        PATH, json={"name": "t", "type": kind, "config": config, "action": TASK}
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["details"]["errors"][0]["field"] == f"body.{field}"
    assert (await site.http.get(PATH)).json() == []


@pytest.mark.parametrize(
    ("action", "status", "field"),
    [
        ({"type": "create_task", "config": {}}, 422, "action.config.title"),
        ({"type": "create_task", "config": {"title": "x", "agent_id": 99}}, 404, None),
        ({"type": "execute_workflow", "config": {"workflow_id": 99}}, 404, None),
        ({"type": "send_notification", "config": {"title": "x", "channel_id": 9}}, 404, None),
        ({"type": "send_notification", "config": {"title": "x", "user_id": 9}}, 404, None),
        ({"type": "send_notification", "config": {"title": ""}}, 422, "action.config.title"),
        ({"type": "call_webhook", "config": {"url": "ftp://x"}}, 422, "action.config.url"),
        (
            {"type": "call_webhook", "config": {**CALL, "headers": {"Webhook-Id": "x"}}},
            422,
            "action.config.headers",
        ),
        (
            {"type": "call_webhook", "config": {**CALL, "headers": {"X-Key": "***"}}},
            422,
            "action.config.headers.X-Key",
        ),
        ({"type": "start_conversation", "config": {"topic": "x"}}, 422, "action.config.agent_ids"),
        (
            {"type": "start_conversation", "config": {"topic": "x", "agent_ids": [9]}},
            404,
            None,
        ),
        ({"type": "start_conversation", "config": {"topic": "x", "circle": "no"}}, 404, None),
        ({"type": "explode"}, 422, "action.type"),
    ],
)
async def test_an_action_that_does_not_fit_is_refused(
    site: Site, action: dict[str, Any], status: int, field: str | None
):
    body = {"name": "t", "type": "cron", "config": CRON, "action": action}
    answer = await site.http.post(PATH, json=body)
    assert answer.status_code == status, answer.text
    details = answer.json()["details"]
    if field is None:
        assert details["field"].startswith("action.config.")
    elif field == "action.type":
        assert details["errors"][0]["field"].startswith("body.action")
    else:
        assert details["errors"][0]["field"] == f"body.{field}"
    assert site.engine.schedules == {}


async def test_lists_are_filtered_and_paged(site: Site):
    cron = await site.make("cron", CRON)
    event = await site.make("event", {"event": "task.*"}, is_active=False)
    answer = await site.http.get(PATH)
    assert [one["id"] for one in answer.json()] == [event["id"], cron["id"]]
    assert answer.headers["x-total-count"] == "2"
    for row in answer.json():
        TriggerOut.model_validate(row)
    answer = await site.http.get(PATH, params={"type": "cron"})
    assert [one["next_fire_at"] for one in answer.json()] == ["2030-01-01T00:00:00Z"]
    answer = await site.http.get(PATH, params={"is_active": False})
    assert [one["id"] for one in answer.json()] == [event["id"]]
    assert (await site.http.get(PATH, params={"type": "moon"})).status_code == 422
    answer = await site.http.get(PATH, params={"limit": 1, "offset": 1})
    assert [one["id"] for one in answer.json()] == [cron["id"]]


async def test_a_toggle_pauses_the_schedule_and_takes_the_word_or_flips(site: Site):
    made = await site.make("cron", CRON)
    path = f"{PATH}/{made['id']}/toggle"
    for body, expected in ((None, False), ({"enabled": False}, False), (None, True)):
        answer = await site.http.post(path, json=body)
        assert answer.status_code == 200
        assert answer.json()["is_active"] is expected
        await site.idle()
        assert site.engine.schedules[made["id"]].is_paused is not expected
        assert (await site.get(made["id"]))["is_active"] is expected
    assert (await site.http.post(f"{PATH}/99/toggle")).status_code == 404


async def test_an_update_changes_what_is_sent_and_the_schedule(site: Site):
    made = await site.make("interval", {"every_seconds": 60})
    path = f"{PATH}/{made['id']}"
    answer = await site.http.put(path, json={"name": "Other", "config": {"every_seconds": 90}})
    assert answer.status_code == 200, answer.text
    await site.idle()
    assert site.engine.schedules[made["id"]].every_seconds == 90
    shown = await site.get(made["id"])
    assert (shown["name"], shown["config"]["every_seconds"]) == ("Other", 90)
    assert shown["action"]["config"]["title"] == TASK["config"]["title"]
    answer = await site.http.put(path, json={"type": "event"})
    assert answer.json()["details"]["errors"][0]["field"] == "body.config"
    answer = await site.http.put(path, json={"name": None})
    assert answer.status_code == 422
    answer = await site.http.put(path, json={"type": "event", "config": {"event": "task.failed"}})
    assert answer.status_code == 200
    await site.idle()
    assert site.engine.schedules == {}
    assert (await site.http.put(f"{PATH}/99", json={"name": "x"})).status_code == 404


async def test_a_delete_removes_the_schedule_and_frees_the_slug(site: Site):
    made = await site.make("cron", CRON)
    assert (await site.http.delete(f"{PATH}/{made['id']}")).status_code == 204
    await site.idle()
    assert site.engine.schedules == {}
    assert (await site.http.get(f"{PATH}/{made['id']}")).status_code == 404
    assert (await site.http.delete(f"{PATH}/{made['id']}")).status_code == 404
    hook = await site.make("webhook", {"slug": "tea-time"})
    twice = {"name": "t", "type": "webhook", "config": {"slug": "tea-time"}, "action": TASK}
    answer = await site.http.post(PATH, json=twice)
    assert (answer.status_code, answer.json()["error_code"]) == (409, "RES_002")
    other = await site.make("webhook", {})
    answer = await site.http.put(f"{PATH}/{other['id']}", json={"config": {"slug": "tea-time"}})
    assert answer.status_code == 409
    await site.http.delete(f"{PATH}/{hook['id']}")
    await site.make("webhook", {"slug": "tea-time"})


async def test_a_schedule_that_could_not_be_told_is_told_by_the_relay(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    """The process dies between the commit of the row and the call to the engine."""
    with monkeypatch.context() as dying:
        dying.setattr(site.core.errands, "run", lose)
        answer = await site.http.post(
            PATH, json={"name": "t", "type": "cron", "config": CRON, "action": TASK}
        )
    trigger_id = answer.json()["id"]
    assert site.engine.schedules == {}
    site.engine.down = True
    with pytest.raises(Exception, match="Temporal"):
        await site.core.trigger_dispatch.deliver_schedule(trigger_id)
    site.engine.down = False
    await site.core.trigger_dispatch.deliver_schedule(trigger_id)
    assert set(site.engine.schedules) == {trigger_id}
    async with site.core.db.transaction() as tx:
        mailbox = site.core.trigger_dispatch._mailbox
        assert await mailbox.owed(tx, "trigger", trigger_id) == []
    with monkeypatch.context() as dying:
        dying.setattr(site.core.errands, "run", lose)
        await site.http.delete(f"{PATH}/{trigger_id}")
    await site.core.trigger_dispatch.deliver_schedule(trigger_id)
    assert site.engine.schedules == {}


async def test_a_threshold_has_a_rhythm_and_shares_it(site: Site):
    config = {"metric": "queue_depth", "threshold": 5, "check_every_seconds": 30}
    one = await site.make("threshold", config)
    two = await site.make("threshold", config)
    assert site.engine.checks == {30}
    await site.http.put(
        f"{PATH}/{one['id']}", json={"config": {**config, "check_every_seconds": 60}}
    )
    await site.idle()
    assert site.engine.checks == {30, 60}
    await site.http.delete(f"{PATH}/{two['id']}")
    await site.http.post(f"{PATH}/{one['id']}/toggle")
    await site.idle()
    assert site.engine.checks == set()


async def test_secrets_are_masked_kept_when_masked_and_sealed(site: Site):
    action = {"type": "call_webhook", "config": {**CALL, "secret": "kolibri-sign"}}
    made = await site.make("webhook", {"secret": "kolibri-in"}, action=action)
    assert made["secret"] == "kolibri-in"
    assert made["url"].startswith("/webhook/hook-")
    shown = await site.get(made["id"])
    assert "kolibri" not in str(shown)
    assert shown["config"]["secret"] == "***"
    assert shown["action"]["config"]["headers"] == {"Authorization": "***"}
    answer = await site.http.put(
        f"{PATH}/{made['id']}", json={"config": shown["config"], "action": shown["action"]}
    )
    assert answer.status_code == 200, answer.text
    async with site.core.db.transaction() as tx:
        sealed = await site.core.triggers._triggers.sealed(tx, made["id"])
    box = site.core.triggers._drafting._box
    assert sealed.secret is not None
    assert b"kolibri" not in sealed.secret
    assert box.open_secret(made["id"], sealed.secret) == "kolibri-in"
    call = box.open_call(made["id"], sealed.action_secrets)
    assert call.headers == {"Authorization": "Bearer kolibri"}
    assert call.secret == "kolibri-sign"


async def test_a_secret_of_the_vault_that_a_trigger_uses_cannot_be_deleted(site: Site):
    answer = await site.http.post("/api/v1/secrets", json={"name": "hook", "value": "kolibri"})
    secret_id = answer.json()["id"]
    action = {
        "type": "call_webhook",
        "config": {"url": "https://example.org", "headers": {"X-Key": "secret://hook"}},
    }
    made = await site.make("cron", CRON, action=action)
    answer = await site.http.delete(f"/api/v1/secrets/{secret_id}")
    assert answer.status_code == 409
    assert f"trigger {made['id']}" in answer.text
    await site.http.put(f"{PATH}/{made['id']}", json={"action": TASK})
    assert (await site.http.delete(f"/api/v1/secrets/{secret_id}")).status_code == 204


async def test_a_test_fires_once_and_stands_in_the_history(site: Site):
    made = await site.make("cron", CRON, is_active=False)
    answer = await site.http.post(
        f"{PATH}/{made['id']}/test", json={"event_data": {"title": "tea"}}
    )
    assert answer.status_code == 202
    begun = FiringOut.model_validate(answer.json())
    await site.idle()
    [(asked, key)] = site.engine.fired
    assert (asked.run_id, key[:5]) == (begun.run_id, "test-")
    history = f"{PATH}/{made['id']}/history"
    assert (await site.http.get(history)).json() == []
    for _ in range(2):
        await site.core.firings.claim(ClaimInput(trigger_id=made["id"], run_id=begun.run_id))
        await site.core.firings.act(ActInput(run_id=begun.run_id))
    answer = await site.http.get(history, params={"status": "success"})
    assert answer.headers["x-total-count"] == "1"
    [run] = answer.json()
    assert run["result"] == {"task_id": 1}
    assert run["event_data"] == {"title": "tea"}
    assert (await site.http.get(history, params={"status": "failure"})).json() == []
    assert (await site.http.get(history, params={"status": "running"})).status_code == 422
    assert [task.title for task in site.tasks.asked] == ["Look at tea"]
    shown = await site.get(made["id"])
    assert (shown["fire_count"], shown["last_status"]) == (1, "success")
    assert shown["stats"]["execution_counts"] == {"success": 1, "failure": 0, "skipped": 0}
    assert shown["stats"]["success_rate"] == 100
    assert [one["id"] for one in shown["stats"]["recent_executions"]] == [begun.run_id]


async def test_the_name_of_the_actions_agent_is_shown(site: Site):
    agent = await site.agent()
    action = {"type": "create_task", "config": {"title": "x", "agent_id": agent}}
    made = await site.make("cron", CRON, action=action)
    assert made["agent_name"] == "Ada"


async def test_without_a_key_a_webhook_cannot_be_made(client: httpx.AsyncClient):
    body = {"name": "t", "type": "webhook", "config": {}, "action": TASK}
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 503
    assert (await client.get(PATH)).json() == []
