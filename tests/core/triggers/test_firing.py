"""A firing against the record: done once and ended once, whoever tries how often."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from conclave.errors import Conflict, Unavailable, WebFailed
from conclave.triggers.firing import MOST_CALLS
from conclave.triggers.signatures import sign
from schema.domain.triggers import RunStatus
from schema.domain.web import WebAnswer, WebRequest
from schema.payloads.triggers import ClaimInput, FiringOutcome, SettleInput
from tests.harness.triggers import Triggers

CRON = {"cron_expression": "30 2 * * *", "timezone": "America/New_York", "catch_up": True}
CALL: dict[str, Any] = {
    "url": "https://example.org/{{event.n}}?q={{event.q}}",
    "headers": {"Authorization": "Bearer kolibri", "X-N": "{{event.n}}"},
    "secret": "whsec_c2VjcmV0",
}


class FakeWeb:
    """Answers what it was given, or raises it."""

    def __init__(self) -> None:
        self.asked: list[WebRequest] = []
        self.answers: list[WebAnswer | BaseException | int] = []

    async def send(self, request: WebRequest, *, timeout: float) -> WebAnswer:
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, int):
            return WebAnswer(
                status=answer,
                reason="",
                url=request.url,
                headers={},
                content_type="text/plain",
                text="x" * 600,
                size=600,
            )
        return answer


@pytest.fixture
def web(triggers: Triggers) -> FakeWeb:
    web = FakeWeb()
    triggers.core.firings._caller._web = web
    return web


async def fired_events(triggers: Triggers) -> list[dict[str, Any]]:
    async with triggers.core.db.transaction() as tx:
        rows = await tx.conn.scalars(
            text("SELECT data FROM events WHERE type = 'trigger.fired' ORDER BY id")
        )
        return list(rows)


async def test_a_task_is_made_with_its_key_and_told_of_once(triggers: Triggers):
    trigger = await triggers.make("cron", CRON)
    run = await triggers.fire(trigger, {"title": "tea"})
    assert (run.status, run.result, run.error) == (RunStatus.SUCCESS, {"task_id": 1}, None)
    [wanted] = triggers.tasks.asked
    assert wanted.title == "Look at tea"
    assert wanted.origin is not None
    assert (wanted.origin.key, wanted.origin.chain_depth) == (f"trigger-run-{run.id}", 1)
    for _ in range(3):
        assert (await triggers.claim(trigger, run.id)).run_id is None
        assert (await triggers.act(run.id)).outcome is FiringOutcome.SUCCESS
        late = SettleInput(run_id=run.id, reason="late")
        assert (await triggers.core.firings.settle(late)).outcome is FiringOutcome.SUCCESS
    assert len(triggers.tasks.asked) == 1
    told = {"trigger_id": trigger.id, "run_id": run.id, "status": "success"}
    assert await fired_events(triggers) == [told]
    after = await triggers.get(trigger)
    assert (after.fire_count, after.last_status) == (1, RunStatus.SUCCESS)
    assert after.last_fired_at is not None
    assert after.updated_at == trigger.updated_at


async def test_twenty_tries_at_once_do_it_once(triggers: Triggers):
    trigger = await triggers.make("cron", CRON)
    run_id = await triggers.core.triggers.fire(trigger.id, {})
    await asyncio.gather(*(triggers.claim(trigger, run_id) for _ in range(10)))
    await asyncio.gather(*(triggers.act(run_id) for _ in range(10)))
    assert len(triggers.tasks.asked) == 1
    assert len(await fired_events(triggers)) == 1
    assert (await triggers.get(trigger)).fire_count == 1


async def test_a_refusal_is_a_failure_and_a_store_that_is_away_is_tried_again(triggers: Triggers):
    trigger = await triggers.make("cron", CRON)
    triggers.tasks.refuses = Unavailable("The database cannot be reached.")
    run_id = await triggers.core.triggers.fire(trigger.id, {})
    await triggers.claim(trigger, run_id)
    with pytest.raises(Unavailable):
        await triggers.act(run_id)
    assert (await triggers.run(run_id)).status is RunStatus.RUNNING
    triggers.tasks.refuses = Conflict("The agent is gone")
    assert (await triggers.act(run_id)).outcome is FiringOutcome.FAILURE
    run = await triggers.run(run_id)
    assert (run.status, run.error, run.result) == (RunStatus.FAILURE, "The agent is gone", {})
    assert (await triggers.get(trigger)).last_status is RunStatus.FAILURE


async def test_a_pipeline_at_its_limit_is_skipped(triggers: Triggers):
    action = {"workflow_id": 3, "input": {"n": "{{event.n}}", "text": "n={{event.n}}"}}
    trigger = await triggers.make("cron", CRON, "execute_workflow", action)
    run = await triggers.fire(trigger, {"n": 7})
    assert run.result == {"run_id": 71}
    [started] = triggers.pipelines.started.values()
    assert started["input"] == {"n": 7, "text": "n=7"}
    assert (started["trigger_id"], started["chain_depth"]) == (trigger.id, 1)
    triggers.pipelines.full = True
    run = await triggers.fire(trigger, {"n": 7})
    assert run.status is RunStatus.SKIPPED
    assert "limit" in (run.error or "")
    after = await triggers.get(trigger)
    assert (after.fire_count, after.last_status) == (1, RunStatus.SKIPPED)


async def test_notifications_go_to_the_product_and_nowhere_else_yet(triggers: Triggers):
    given = {"title": "{{event.x}} is over", "severity": "warning"}
    trigger = await triggers.make("cron", CRON, "send_notification", given)
    run = await triggers.fire(trigger, {"x": 9})
    assert run.result == {"notification_ids": [1]}
    assert triggers.notifier.sent[0]["title"] == "9 is over"
    mail = await triggers.make("cron", CRON, "send_notification", {**given, "channel": "email"})
    run = await triggers.fire(mail)
    assert run.status is RunStatus.FAILURE
    assert "email" in (run.error or "")


async def test_a_conversation_is_started_with_its_firing(triggers: Triggers):
    agent = (await triggers.core.agents.create(_agent())).id
    given = {"topic": "About {{event.title}}", "agent_ids": [agent], "prompt": "Hello"}
    trigger = await triggers.make("cron", CRON, "start_conversation", given)
    run = await triggers.fire(trigger, {"title": "tea"})
    assert run.status is RunStatus.SUCCESS, run.error
    await triggers.idle()
    [state] = triggers.engine.started
    assert run.result == {"conversation_id": state.conversation_id}
    assert trigger.agent_name == "Ada"


async def test_a_call_is_signed_noted_and_cut(triggers: Triggers, web: FakeWeb):
    trigger = await triggers.make("cron", CRON, "call_webhook", CALL)
    run = await triggers.fire(trigger, {"n": 7, "q": "a/b&c"})
    assert run.status is RunStatus.SUCCESS
    assert run.result == {"status_code": 200, "response_body": "x" * 500}
    [asked] = web.asked
    assert asked.url == "https://example.org/7?q=a%2Fb%26c"
    assert asked.headers["Authorization"] == "Bearer kolibri"
    assert asked.headers["X-N"] == "7"
    assert asked.headers["webhook-id"] == f"trigger-run-{run.id}"
    assert asked.body == '{"n": 7, "q": "a/b&c"}'
    stamp = int(asked.headers["webhook-timestamp"])
    wanted = sign(CALL["secret"], asked.headers["webhook-id"], stamp, asked.body.encode())
    assert asked.headers["webhook-signature"] == wanted


async def test_a_call_that_was_cut_is_made_again_under_the_same_id_and_then_given_up(
    triggers: Triggers, web: FakeWeb
):
    trigger = await triggers.make("cron", CRON, "call_webhook", CALL)
    run_id = await triggers.core.triggers.fire(trigger.id, {})
    await triggers.claim(trigger, run_id)
    web.answers = [asyncio.CancelledError()]
    with pytest.raises(asyncio.CancelledError):
        await triggers.act(run_id)
    assert (await triggers.act(run_id)).outcome is FiringOutcome.SUCCESS
    assert len({asked.headers["webhook-id"] for asked in web.asked}) == 1
    assert (await triggers.run(run_id)).result["attempts"] == 2

    run_id = await triggers.core.triggers.fire(trigger.id, {})
    web.asked.clear()
    web.answers = [asyncio.CancelledError() for _ in range(MOST_CALLS)]
    for _ in range(MOST_CALLS):
        with pytest.raises(asyncio.CancelledError):
            await triggers.act(run_id)
    assert (await triggers.act(run_id)).outcome is FiringOutcome.FAILURE
    assert len(web.asked) == MOST_CALLS
    assert "not known" in ((await triggers.run(run_id)).error or "")


async def test_a_receiver_that_refuses_is_a_failure_with_its_answer(
    triggers: Triggers, web: FakeWeb
):
    trigger = await triggers.make("cron", CRON, "call_webhook", CALL)
    web.answers = [500, WebFailed("The server cannot be reached")]
    run = await triggers.fire(trigger)
    assert (run.status, run.result["status_code"]) == (RunStatus.FAILURE, 500)
    run = await triggers.fire(trigger)
    assert (run.status, run.error) == (RunStatus.FAILURE, "The server cannot be reached")
    assert len(web.asked) == 2


async def test_loopback_is_never_called(triggers: Triggers):
    trigger = await triggers.make("cron", CRON, "call_webhook", {"url": "http://127.0.0.1:9/x"})
    run = await triggers.fire(trigger)
    assert run.status is RunStatus.FAILURE
    assert "refused" in (run.error or "")


async def test_a_schedules_firing_is_stored_once_by_its_time(triggers: Triggers):
    trigger = await triggers.make("interval", {"every_seconds": 10})
    nominal = datetime.now(UTC).replace(microsecond=0)
    asked = ClaimInput(trigger_id=trigger.id, nominal=nominal)
    claims = await asyncio.gather(*(triggers.core.firings.claim(asked) for _ in range(10)))
    assert len({claim.run_id for claim in claims}) == 1
    [run] = await triggers.runs(trigger)
    assert run.event_data["scheduled_at"] == nominal.isoformat().replace("+00:00", "Z")
    await triggers.act(run.id)
    assert (await triggers.core.firings.claim(asked)).run_id is None
    await triggers.core.triggers.toggle(trigger.id, False)
    later = asked.model_copy(update={"nominal": nominal + timedelta(seconds=10)})
    assert (await triggers.core.firings.claim(later)).run_id is None
    assert len(await triggers.runs(trigger)) == 1


async def test_the_hour_that_comes_twice_fires_once(triggers: Triggers):
    config = {**CRON, "cron_expression": "30 1 * * *"}
    trigger = await triggers.make("cron", config)
    for hour in (5, 6):  # 01:30 in New York, before and after the clocks go back
        nominal = datetime(2027, 11, 7, hour, 30, tzinfo=UTC)
        claimed = await triggers.core.firings.claim(
            ClaimInput(trigger_id=trigger.id, nominal=nominal)
        )
        if claimed.run_id is not None:
            await triggers.act(claimed.run_id)
    [run] = await triggers.runs(trigger)
    assert run.firing_key == "2027-11-07T01:30[America/New_York]"


async def test_a_time_that_the_expression_does_not_mean_fires_nothing(triggers: Triggers):
    """As Temporal starts it for Berlin's 01:30 an hour late on the day the clocks go back."""
    config = {"cron_expression": "30 1 * * *", "timezone": "Europe/Berlin", "catch_up": True}
    trigger = await triggers.make("cron", config)
    for hour, number in ((23, 1), (0, 1)):
        nominal = datetime(2027, 10, 30 if hour else 31, hour, 30, tzinfo=UTC)
        asked = ClaimInput(trigger_id=trigger.id, nominal=nominal)
        await triggers.core.firings.claim(asked)
        assert len(await triggers.runs(trigger)) == number


async def test_a_missed_time_is_skipped_unless_it_is_to_be_caught_up_with(triggers: Triggers):
    nominal = datetime(2026, 7, 1, 6, 30, tzinfo=UTC)
    for catch_up, status in ((False, RunStatus.SKIPPED), (True, RunStatus.RUNNING)):
        trigger = await triggers.make("cron", {**CRON, "catch_up": catch_up})
        asked = ClaimInput(trigger_id=trigger.id, nominal=nominal)
        claimed = await triggers.core.firings.claim(asked)
        assert (claimed.run_id is None) is (status is RunStatus.SKIPPED)
        [run] = await triggers.runs(trigger)
        assert run.status is status


async def test_an_interval_that_begins_late_is_done_and_one_that_was_missed_is_skipped(
    triggers: Triggers,
):
    trigger = await triggers.make("interval", {"every_seconds": 10})
    now = datetime.now(UTC).replace(microsecond=0)
    for minutes in (4, 6):
        nominal = now - timedelta(minutes=minutes)
        await triggers.core.firings.claim(ClaimInput(trigger_id=trigger.id, nominal=nominal))
    late, missed = await triggers.runs(trigger)
    assert (late.status, missed.status) == (RunStatus.RUNNING, RunStatus.SKIPPED)
    assert "five minutes" in (missed.error or "")


async def test_a_firing_of_a_deleted_trigger_is_skipped(triggers: Triggers):
    trigger = await triggers.make("cron", CRON)
    before, after = [await triggers.core.triggers.fire(trigger.id, {}) for _ in range(2)]
    await triggers.claim(trigger, after)
    await triggers.core.triggers.delete(trigger.id)
    assert (await triggers.claim(trigger, before)).run_id is None
    assert (await triggers.act(after)).outcome is FiringOutcome.SKIPPED
    for run_id in (before, after):
        assert (await triggers.run(run_id)).status is RunStatus.SKIPPED
    assert triggers.tasks.asked == []


def _agent() -> Any:
    from conclave.agents.commands import CreateAgent
    from schema.domain.providers import ProviderName

    return CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="gpt-4o-mini")
