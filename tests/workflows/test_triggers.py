"""Firings on a real Temporal: one run, one row, one effect, whatever is killed or retried."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from conclave.db import Database
from conclave.triggers.cron import firing_key, is_meant
from conclave.triggers.dispatch import schedule_of
from conclave.triggers.signatures import sign
from schema.domain.events import EventType
from schema.domain.trigger_configs import CronConfig
from schema.domain.triggers import RunStatus, Trigger, TriggerRun
from schema.payloads import names
from schema.payloads.triggers import (
    ActInput,
    CheckInput,
    CheckResult,
    ClaimInput,
    ClaimResult,
    FiringResult,
    SettleInput,
    TriggerInput,
)
from tests.harness.errands import lose
from tests.harness.runs import chain
from tests.harness.trigger_shop import Shop, running_shop
from tests.histories.files import opened_payloads, raw
from tests.waiting import until
from worker.sandbox import sandboxed_runner
from workflows.engine import TemporalEngine
from workflows.trigger import TriggerWorkflow

CRON = {"cron_expression": "30 2 * * *", "timezone": "Europe/Berlin"}
T = TypeVar("T")


@pytest.fixture
async def shop(
    clean_database: Database, postgres_url: str, temporal_address: str, tmp_path: Path
) -> AsyncIterator[Shop]:
    async with running_shop(postgres_url, temporal_address, tmp_path) as shop:
        yield shop


@pytest.fixture
async def worker(shop: Shop) -> AsyncIterator[None]:
    async with shop.worker() as worker:
        yield worker


async def ended(shop: Shop, trigger: Trigger, number: int = 1) -> list[TriggerRun]:
    """Wait until so many firings have ended."""

    async def have() -> list[TriggerRun] | None:
        runs = await shop.runs(trigger, RunStatus.SUCCESS, RunStatus.FAILURE, RunStatus.SKIPPED)
        return runs if len(runs) >= number else None

    found = await until(have, timeout=40, what=f"{number} firings")
    assert found is not None
    return found


async def described(shop: Shop, trigger: Trigger) -> ScheduleDescription | None:
    handle = shop.client.get_schedule_handle(names.trigger_schedule_id(trigger.id))
    try:
        return await handle.describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def test_an_interval_fires_pauses_and_goes(shop: Shop, worker: None):
    trigger = await shop.make("interval", {"every_seconds": 10})
    there = await described(shop, trigger)
    assert there is not None
    detail = await shop.core.triggers.get(trigger.id)
    # The first of them may have passed between the two looks.
    assert detail.next_fire_at in there.info.next_action_times[:2]
    run = (await ended(shop, trigger))[-1]
    assert run.event_data["trigger_id"] == trigger.id
    nominal = str(run.event_data["scheduled_at"])
    [history] = await chain(shop.client, f"trigger-{trigger.id}-{nominal}")
    assert shop.core.codec is not None
    opened = await opened_payloads(history, shop.core.codec)
    everything = raw(history) + b"".join(payload.SerializeToString() for payload in opened)
    assert b"Look at" not in everything
    await shop.core.triggers.toggle(trigger.id, False)
    await shop.idle()
    there = await described(shop, trigger)
    assert there is not None
    assert there.schedule.state.paused
    assert (await shop.core.triggers.get(trigger.id)).next_fire_at is None
    fired = len(await shop.runs(trigger))
    await shop.core.triggers.delete(trigger.id)
    await shop.idle()
    assert await described(shop, trigger) is None
    assert len(await shop.runs(trigger)) == fired


async def test_a_schedule_is_brought_to_what_the_record_says_last(shop: Shop):
    trigger = await shop.make("cron", CRON)
    await asyncio.gather(*(shop.core.triggers.toggle(trigger.id, None) for _ in range(6)))
    await shop.core.triggers.toggle(trigger.id, False)
    await shop.idle()
    there = await described(shop, trigger)
    assert there is not None
    assert there.schedule.state.paused
    async with shop.core.db.transaction() as tx:
        assert await tx.conn.scalar(text("SELECT count(*) FROM outbox")) == 0


async def test_a_schedule_outlives_the_key_that_seals_payloads(shop: Shop):
    trigger = await shop.make("cron", CRON)
    there = await described(shop, trigger)
    assert there is not None
    action = there.schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    [given] = action.args
    assert isinstance(given, Payload)
    assert given.metadata["encoding"] == b"json/plain"
    assert TriggerInput.model_validate_json(given.data).trigger_id == trigger.id


async def test_what_was_missed_is_made_up_for_once(shop: Shop, worker: None):
    """As after an outage: the server has many times to start at once."""
    config = {"cron_expression": "0 3 * * *", "catch_up": True}
    trigger = await shop.make("cron", config)
    now = datetime.now(UTC)
    handle = shop.client.get_schedule_handle(names.trigger_schedule_id(trigger.id))
    await handle.backfill(ScheduleBackfill(start_at=now - timedelta(days=9), end_at=now))
    await ended(shop, trigger)

    async def is_over() -> bool:
        there = await handle.describe()
        return not there.info.running_actions and there.info.num_actions_skipped_overlap == 8

    await until(is_over, what="the other times to be left out")
    assert len(await shop.runs(trigger)) == 1


async def test_a_crash_between_row_and_schedule_is_made_good_by_the_relay(
    shop: Shop, worker: None, monkeypatch: pytest.MonkeyPatch
):
    async def relayed() -> int:
        return await shop.parts.relay.relay_due()

    monkeypatch.setattr(shop.core.errands, "run", lose)
    trigger = await shop.make("cron", CRON)
    assert await described(shop, trigger) is None
    await until(relayed, what="the schedule to be due")
    assert await described(shop, trigger) is not None
    await shop.core.triggers.delete(trigger.id)
    await until(relayed, what="the removal to be due")
    assert await described(shop, trigger) is None
    hook = await shop.make("webhook", {})
    await shop.core.triggers.fire(hook.id, {})
    await until(relayed, what="the firing to be due")
    assert [run.status for run in await ended(shop, hook)] == [RunStatus.SUCCESS]


async def test_a_webhook_fires_through_the_whole_product(shop: Shop, worker: None):
    given = {"url": shop.receiver.url, "secret": "kolibri"}
    trigger = await shop.make("webhook", {"require_signature": False}, "call_webhook", given)
    assert trigger.slug is not None
    headers = {"webhook-id": "msg_7"}
    received = await shop.core.ingress.receive(trigger.slug, headers, b'{"n": 1}', lambda _: None)
    [run] = await ended(shop, trigger)
    assert run.status is RunStatus.SUCCESS, run.error
    assert run.result == {"status_code": 200, "response_body": "ok"}
    [(sent, body)] = shop.receiver.calls
    assert body == b'{"body": {"n": 1}, "headers": {"webhook-id": "msg_7"}}'
    wanted = sign("kolibri", sent["webhook-id"], int(sent["webhook-timestamp"]), body)
    assert sent["webhook-signature"] == wanted
    workflow_id = f"trigger-{trigger.id}-webhook-{received.event_id}"
    assert await shop.client.get_workflow_handle(workflow_id).result() == {"outcome": "success"}


async def test_an_event_fires_through_the_whole_product(shop: Shop, worker: None):
    trigger = await shop.make("event", {"event_type": "task.failed"})
    reading = asyncio.create_task(shop.consumer.run())
    try:
        await shop.tell(EventType.TASK_FAILED, {"id": 3, "title": "tea"})
        [run] = await ended(shop, trigger)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert run.status is RunStatus.SUCCESS
    assert [task.title for task in shop.tasks.asked] == ["Look at tea"]


async def test_a_worker_killed_in_mid_call_is_followed_by_another(
    shop: Shop, database: Database, tmp_path: Path
):
    assert shop.settings.encryption_key is not None
    environment = os.environ | {
        "DATABASE_URL": shop.settings.database_url,
        "TEMPORAL_ADDRESS": shop.settings.temporal_address,
        "ENCRYPTION_KEY": shop.settings.encryption_key.get_secret_value(),
        "CONCLAVE_DATA_DIR": str(shop.settings.conclave_data_dir),
    }
    shop.receiver.gate.clear()
    trigger = await shop.make("webhook", {}, "call_webhook", {"url": shop.receiver.url})
    with (tmp_path / "worker.log").open("wb") as log:
        killed = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.harness.trigger_worker",
            env=environment,
            stdout=log,
            stderr=log,
        )
    await shop.core.triggers.fire(trigger.id, {"n": 1})
    await until(lambda: shop.receiver.calls, timeout=60, what="the call to arrive")
    killed.kill()
    await killed.wait()
    shop.receiver.gate.set()
    async with shop.worker():
        [run] = await ended(shop, trigger)
    assert (run.status, run.result["attempts"]) == (RunStatus.SUCCESS, 2)
    assert len(shop.receiver.calls) == 2
    assert set(shop.receiver.ids()) == {f"trigger-run-{run.id}"}
    after = await shop.get(trigger)
    assert (after.fire_count, after.last_status) == (1, RunStatus.SUCCESS)
    async with database.transaction() as tx:
        told = await tx.conn.scalar(
            text("SELECT count(*) FROM events WHERE type = 'trigger.fired'")
        )
    assert told == 1


async def test_a_cancel_in_temporal_is_a_failure_in_the_record(shop: Shop, worker: None):
    shop.receiver.gate.clear()
    trigger = await shop.make("webhook", {}, "call_webhook", {"url": shop.receiver.url})
    run_id = await shop.core.triggers.fire(trigger.id, {})
    await until(lambda: shop.receiver.calls, timeout=40, what="the call to arrive")
    key = (await shop.run(run_id)).firing_key
    handle = shop.client.get_workflow_handle(names.trigger_workflow_id(trigger.id, key))
    await handle.cancel()
    [run] = await ended(shop, trigger)
    assert (run.status, run.error) == (RunStatus.FAILURE, "Cancelled")
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED


class Stumbling:
    """Does what it is asked, and then fails the first time of each: the answer is lost."""

    def __init__(self, shop: Shop) -> None:
        self._firings = shop.core.firings

    @activity.defn(name=names.CLAIM_FIRING_ACTIVITY)
    async def claim(self, asked: ClaimInput) -> ClaimResult:
        return await _lost(lambda: self._firings.claim(asked))

    @activity.defn(name=names.ACT_ACTIVITY)
    async def act(self, asked: ActInput) -> FiringResult:
        return await _lost(lambda: self._firings.act(asked))

    @activity.defn(name=names.SETTLE_FIRING_ACTIVITY)
    async def settle(self, asked: SettleInput) -> FiringResult:
        return await _lost(lambda: self._firings.settle(asked))


async def _lost(do: Callable[[], Awaitable[T]]) -> T:
    done = await do()
    if activity.info().attempt == 1:
        raise ApplicationError("The answer was lost")
    return done


async def test_the_row_and_the_effect_exist_once_when_every_activity_is_tried_again(shop: Shop):
    trigger = await shop.make("interval", {"every_seconds": 10})
    stumbling = Stumbling(shop)
    async with Worker(
        shop.client,
        task_queue="stumbling-triggers",
        workflows=[TriggerWorkflow],
        activities=[stumbling.claim, stumbling.act, stumbling.settle],
        workflow_runner=sandboxed_runner(),
    ):
        nominal = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        result = await shop.client.execute_workflow(
            names.TRIGGER_WORKFLOW,
            TriggerInput(trigger_id=trigger.id),
            id=f"trigger-{trigger.id}-{nominal}",
            task_queue="stumbling-triggers",
            result_type=FiringResult,
        )
    assert result.outcome == "success"
    [run] = await shop.runs(trigger)
    assert run.firing_key == nominal
    assert len(shop.tasks.asked) == 1
    assert (await shop.get(trigger)).fire_count == 1


async def test_a_threshold_is_looked_at_by_its_rhythms_schedule(shop: Shop, worker: None):
    config = {
        "metric": "queue_depth",
        "operator": "gte",
        "threshold": 0,
        "check_every_seconds": 10,
    }
    trigger = await shop.make("threshold", config)
    [run] = await ended(shop, trigger)
    assert run.firing_key == "crossing-1"
    await shop.core.triggers.delete(trigger.id)
    await shop.idle()
    handle = shop.client.get_schedule_handle(names.trigger_checks_id(10))
    with pytest.raises(RPCError):
        await handle.describe()
    assert await shop.core.thresholds.check(CheckInput(every_seconds=10)) == CheckResult(
        checked=0, crossed=0
    )


def by_the_clock(
    zone: str, hours: list[int], minute: int, start: datetime, number: int
) -> list[datetime]:
    """Return when such a time of the day is, by going through the minutes; a wall-clock time
    that comes twice is there twice, one that does not exist is not there."""
    found: list[datetime] = []
    moment = start
    while len(found) < number:
        local = moment.astimezone(ZoneInfo(zone))
        if local.minute == minute and (not hours or local.hour in hours):
            found.append(moment)
        moment += timedelta(minutes=30)
    return found


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    ("expression", "hours"), [("30 2 * * *", [2]), ("30 1 * * *", [1]), ("30 * * * *", [])]
)
@pytest.mark.parametrize(
    "start",
    [
        datetime(2027, 3, 11, tzinfo=UTC),
        datetime(2027, 3, 25, tzinfo=UTC),
        datetime(2027, 3, 27, 22, tzinfo=UTC),
        datetime(2027, 10, 29, tzinfo=UTC),
        datetime(2027, 10, 30, 22, tzinfo=UTC),
        datetime(2027, 11, 5, tzinfo=UTC),
        datetime(2027, 11, 7, 3, tzinfo=UTC),
    ],
    ids=str,
)
async def test_schedules_over_the_changes_of_the_clocks(
    shop: Shop, zone: str, expression: str, hours: list[int], start: datetime
):
    """Against the minutes of the zone, one by one; what comes twice counts as one firing.

    Ten times are told, and one of them may be one that the expression does not mean.
    """
    config = {"cron_expression": expression, "timezone": zone}
    trigger = await shop.make("cron", config, is_active=False)
    wanted = schedule_of(trigger, start).model_copy(update={"start_at": start})
    engine = shop.core.engine
    assert isinstance(engine, TemporalEngine)
    await engine.triggers.keep_schedule(wanted)
    there = await described(shop, trigger)
    assert there is not None
    read = CronConfig.model_validate(config)
    times = [moment for moment in there.info.next_action_times if is_meant(read, moment)]
    told = [firing_key(read, moment) for moment in times]
    expected = [firing_key(read, one) for one in by_the_clock(zone, hours, 30, start, 12)]
    once = list(dict.fromkeys(told))
    assert once == list(dict.fromkeys(expected))[: len(once)]
    assert len(once) >= 9
