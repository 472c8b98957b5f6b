"""POST /webhook/{slug}: what is believed, what is stored, and what runs, once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from api.aether.schemas.webhooks import ReceivedOut
from conclave.db import Database
from conclave.settings import Settings
from schema.payloads.triggers import ActInput, ClaimInput
from tests.api.platform.triggering import (
    PATH,
    Site,
    hub_signed,
    packed,
    running_site,
    signed,
)
from tests.harness.errands import lose

HOOK = "/webhook/tea-time"
SECRET = "kolibri"
BODY = packed({"title": "tea", "n": 1})


@pytest.fixture
async def site(api_settings: Settings, clean_database: Database) -> AsyncIterator[Site]:
    large = api_settings.model_copy(update={"max_body_bytes": 10 * 1024 * 1024})
    async with running_site(large) as site:
        yield site


async def hook(site: Site, **config: Any) -> dict[str, Any]:
    return await site.make("webhook", {"slug": "tea-time", "secret": SECRET, **config})


async def stored(site: Site) -> int:
    async with site.core.db.transaction() as tx:
        found = await tx.conn.scalar(text("SELECT count(*) FROM inbound_events"))
    return found or 0


async def test_a_signed_delivery_is_stored_answered_and_fires(site: Site):
    made = await hook(site)
    answer = await site.http.post(HOOK, content=BODY, headers=signed(SECRET, BODY))
    assert answer.status_code == 200, answer.text
    ReceivedOut.model_validate(answer.json())
    assert answer.json() == {"event_id": 1, "status": "accepted"}
    await site.idle()
    [(asked, key)] = site.engine.fired
    assert key == "webhook-1"
    assert asked.run_id is not None
    await site.core.firings.claim(ClaimInput(trigger_id=made["id"], run_id=asked.run_id))
    await site.core.firings.act(ActInput(run_id=asked.run_id))
    [run] = (await site.http.get(f"{PATH}/{made['id']}/history")).json()
    assert run["event_data"]["body"] == {"title": "tea", "n": 1}
    assert run["event_data"]["headers"]["webhook-id"] == "msg_1"
    assert "webhook-signature" not in run["event_data"]["headers"]
    assert "authorization" not in run["event_data"]["headers"]


async def test_the_body_is_what_the_action_is_given(site: Site):
    action = {
        "type": "create_task",
        "config": {
            "title": "{{event.body.issue.title}} by {{event.body.users.0}}",
            "instructions": "{{event.body}}",
        },
    }
    body = packed({"issue": {"title": "Leak {{event.body.users}}"}, "users": ["Ada"]})
    made = await site.make("webhook", {"slug": "tea-time", "secret": SECRET}, action=action)
    await site.http.post(HOOK, content=body, headers=signed(SECRET, body))
    await site.idle()
    [(asked, _)] = site.engine.fired
    await site.core.firings.claim(ClaimInput(trigger_id=made["id"], run_id=asked.run_id))
    await site.core.firings.act(ActInput(run_id=asked.run_id or 0))
    [task] = site.tasks.asked
    assert task.title == "Leak {{event.body.users}} by Ada"
    assert task.instructions == body.decode()


async def test_githubs_way_of_signing_is_taken_too(site: Site):
    await hook(site)
    answer = await site.http.post(
        HOOK, content=BODY, headers=hub_signed(SECRET, BODY, **{"x-github-delivery": "d1"})
    )
    assert answer.json() == {"event_id": 1, "status": "accepted"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed("another", BODY),
        signed(SECRET, BODY + b" "),
        signed(SECRET, BODY, at=time.time() - 3600),
        signed(SECRET, BODY, at=time.time() + 3600),
        {**signed(SECRET, BODY), "webhook-id": "msg_2"},
        {**signed(SECRET, BODY), "webhook-timestamp": "x"},
        {**signed(SECRET, BODY), "webhook-signature": "v1,AAAA v1a,x"},
        {key: value for key, value in signed(SECRET, BODY).items() if key != "webhook-timestamp"},
        hub_signed("another", BODY),
        {"x-hub-signature-256": "sha256="},
    ],
)
async def test_what_is_not_signed_well_is_refused_and_not_stored(
    site: Site, headers: dict[str, str]
):
    await hook(site)
    answer = await site.http.post(HOOK, content=BODY, headers=headers)
    assert answer.status_code == 401, answer.text
    assert set(answer.json()) == {"error"}
    assert await stored(site) == 0


async def test_one_of_several_signatures_is_enough(site: Site):
    await hook(site)
    headers = signed(SECRET, BODY)
    headers["webhook-signature"] = "v1,AAAA " + headers["webhook-signature"]
    assert (await site.http.post(HOOK, content=BODY, headers=headers)).status_code == 200


async def test_a_made_secret_is_decoded_before_it_signs(site: Site):
    made = await site.make("webhook", {"slug": "tea-time"})
    assert made["secret"].startswith("whsec_")
    headers = signed(made["secret"], BODY)
    assert (await site.http.post(HOOK, content=BODY, headers=headers)).status_code == 200


async def test_unsigned_is_taken_where_it_may_be_but_not_signed_badly(site: Site):
    await hook(site, require_signature=False)
    assert (await site.http.post(HOOK, content=BODY)).json()["status"] == "accepted"
    assert (await site.http.post(HOOK, content=BODY)).json()["status"] == "duplicate"
    bad = signed("another", BODY)
    assert (await site.http.post(HOOK, content=BODY, headers=bad)).status_code == 401


async def test_unknown_and_built_in_addresses(site: Site):
    for slug, status in (("nobody-here", 404), ("x", 404), ("github", 403), ("jira-default", 403)):
        answer = await site.http.post(f"/webhook/{slug}", content=BODY)
        assert answer.status_code == status, slug
        assert set(answer.json()) == {"error"}


async def test_bodies_that_cannot_be_taken(site: Site):
    await hook(site)
    for body in (b"{", b"", b"a=b", b'{"a": NaN}', b'{"a": "\\u0000"}', b"[" * 500 + b"]" * 500):
        answer = await site.http.post(HOOK, content=body, headers=signed(SECRET, body))
        assert answer.status_code == 400, body[:20]
    large = b'"' + b"x" * (5 * 1024 * 1024) + b'"'
    answer = await site.http.post(HOOK, content=large, headers=signed(SECRET, large))
    assert answer.status_code == 413
    assert set(answer.json()) == {"error"}
    assert await stored(site) == 0
    just = large[: 5 * 1024 * 1024 - 1] + b'"'
    answer = await site.http.post(HOOK, content=just, headers=signed(SECRET, just))
    assert answer.status_code == 200


async def test_twenty_deliveries_at_once_are_one_event_and_one_firing(site: Site):
    await hook(site)
    headers = signed(SECRET, BODY)
    answers = await asyncio.gather(
        *(site.http.post(HOOK, content=BODY, headers=headers) for _ in range(20))
    )
    told = [answer.json() for answer in answers]
    assert sorted(one["status"] for one in told) == ["accepted", *["duplicate"] * 19]
    assert {one["event_id"] for one in told} == {told[0]["event_id"]}
    await site.idle()
    assert len(site.engine.fired) == 1
    assert await stored(site) == 1


async def test_twenty_deliveries_without_an_id_are_one_too(site: Site):
    await hook(site)
    headers = hub_signed(SECRET, BODY)
    answers = await asyncio.gather(
        *(site.http.post(HOOK, content=BODY, headers=headers) for _ in range(20))
    )
    assert sorted(one.json()["status"] for one in answers) == ["accepted", *["duplicate"] * 19]
    assert await stored(site) == 1


async def test_the_same_change_of_the_same_object_by_another_id_is_a_duplicate(site: Site):
    await hook(site)

    async def deliver(message_id: str, **issue: Any) -> str:
        body = packed({"action": "edited", "issue": issue, "sent": message_id})
        headers = signed(SECRET, body, message_id)
        return (await site.http.post(HOOK, content=body, headers=headers)).json()["status"]

    change = {"id": 7, "updated_at": "2027-01-01T00:00:00Z"}
    assert await deliver("a", **change) == "accepted"
    assert await deliver("b", **change) == "duplicate"
    assert await deliver("c", **{**change, "updated_at": "2027-01-01T00:00:01Z"}) == "accepted"
    assert await deliver("d", title="neither id nor time") == "accepted"
    assert await deliver("e", title="neither id nor time") == "accepted"
    async with site.core.db.transaction() as tx:
        await tx.conn.execute(
            text("UPDATE inbound_events SET created_at = created_at - interval '11 minutes'")
        )
    assert await deliver("f", **change) == "accepted"
    assert await deliver("a", **change) == "duplicate"


async def test_a_disabled_trigger_keeps_what_comes_and_fires_nothing(site: Site):
    made = await hook(site)
    await site.http.post(f"{PATH}/{made['id']}/toggle")
    answer = await site.http.post(HOOK, content=BODY, headers=signed(SECRET, BODY))
    assert answer.status_code == 200
    await site.idle()
    assert site.engine.fired == []
    assert await stored(site) == 1


async def test_a_firing_that_was_not_started_is_started_by_the_relay(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    await hook(site)
    with monkeypatch.context() as dying:
        dying.setattr(site.core.errands, "run", lose)
        await site.http.post(HOOK, content=BODY, headers=signed(SECRET, BODY))
    assert site.engine.fired == []
    await site.core.trigger_dispatch.deliver_firing(1)
    assert [key for _, key in site.engine.fired] == ["webhook-1"]
    site.engine.closed = True
    await site.core.trigger_dispatch.deliver_firing(1)


async def test_a_secret_of_the_vault_verifies(site: Site):
    await site.http.post("/api/v1/secrets", json={"name": "hook", "value": "from-the-vault"})
    made = await site.make("webhook", {"slug": "tea-time", "secret": "secret://hook"})
    assert made["secret"] is None
    assert made["config"]["secret"] == "secret://hook"
    headers = signed("from-the-vault", BODY)
    assert (await site.http.post(HOOK, content=BODY, headers=headers)).status_code == 200
    headers = signed("secret://hook", BODY, "msg_2")
    assert (await site.http.post(HOOK, content=BODY, headers=headers)).status_code == 401


async def test_the_standards_own_example_verifies():
    """The test vector of the specification (standard-webhooks/spec)."""
    from conclave.triggers.signatures import sign

    body = b'{"test": 2432232314}'
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
