"""Events that fire triggers: each once, in whatever order readers die, and never in a circle."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from psycopg import AsyncConnection

from conclave.db import Transaction
from conclave.triggers.commands import NewFiring, UpdateTrigger
from conclave.triggers.consumer import EventConsumer
from schema.domain.events import ADMIN_OWNER, EventType
from schema.domain.identity import Principal, PrincipalKind, Role
from schema.domain.triggers import MOST_CHAIN_DEPTH, Made, RunStatus, Trigger
from tests.harness.triggers import Triggers
from tests.waiting import until

FAILED = {"event_type": "task.failed"}
ADA = Principal(kind=PrincipalKind.USER, id=5, user_id=5, role=Role.OPERATOR)


async def keys(triggers: Triggers, trigger: Trigger) -> list[str]:
    return [run.firing_key for run in await triggers.runs(trigger)]


async def test_an_event_fires_once_and_carries_its_data(triggers: Triggers):
    trigger = await triggers.make("event", FAILED)
    await triggers.tell(EventType.TASK_FAILED, {"id": 3, "title": "tea"})
    for _ in range(3):
        await triggers.read()
    [run] = await triggers.runs(trigger)
    assert run.event_data == {
        "id": 3,
        "title": "tea",
        "event_type": "task.failed",
        "event_id": 1,
    }
    assert [key for _, key in triggers.engine.triggers.fired] == ["event-1"]


@pytest.mark.parametrize(
    ("config", "fires"),
    [
        ({"event_type": "task.*"}, True),
        ({"event_type": "*"}, True),
        ({"event_type": "task.completed"}, False),
        ({"event_type": "task.failed", "filters": {"priority": "high"}}, True),
        ({"event_type": "task.failed", "filters": {"priority": "low"}}, False),
        ({"event_type": "task.failed", "filters": {"agent.name": "Ada"}}, True),
        ({"event_type": "task.failed", "filters": {"agent.name": "Bob"}}, False),
        ({"event_type": "task.failed", "filters": {"tags.1": "b"}}, True),
        ({"event_type": "task.failed", "filters": {"a.b": 1}}, True),
        ({"event_type": "task.failed", "filters": {"retry_count": True}}, False),
        ({"event_type": "task.failed", "filters": {"nothing": None}}, True),
    ],
)
async def test_names_prefixes_and_filters(triggers: Triggers, config: dict[str, Any], fires: bool):
    trigger = await triggers.make("event", config)
    data = {
        "id": 3,
        "priority": "high",
        "agent": {"name": "Ada"},
        "tags": ["a", "b"],
        "a.b": 1,
        "retry_count": 1,
    }
    await triggers.tell(EventType.TASK_FAILED, data)
    await triggers.read()
    assert len(await triggers.runs(trigger)) == int(fires)


async def test_what_the_log_calls_otherwise_is_found_under_the_catalogues_name(triggers: Triggers):
    trigger = await triggers.make("event", {"event_type": "conversation.failed"})
    for status in ("completed", "failed"):
        await triggers.tell(EventType.CONVERSATION_STATUS, {"status": status})
    await triggers.read()
    [run] = await triggers.runs(trigger)
    assert run.event_data["event_type"] == "conversation.failed"


async def test_private_events_fire_their_owners_triggers_alone(triggers: Triggers):
    admins = await triggers.make("event", FAILED)
    adas = await triggers.make("event", FAILED, by=ADA)
    await triggers.tell(EventType.TASK_FAILED, {"id": 1}, owner="user:5")
    await triggers.tell(EventType.TASK_FAILED, {"id": 2}, owner="user:6")
    await triggers.tell(EventType.TASK_FAILED, {"id": 3}, owner=ADMIN_OWNER)
    await triggers.tell(EventType.TASK_FAILED, {"id": 4})
    await triggers.read()
    assert await keys(triggers, adas) == ["event-1", "event-4"]
    assert await keys(triggers, admins) == ["event-3", "event-4"]


async def test_what_happened_while_it_was_off_does_not_fire(triggers: Triggers):
    await triggers.tell(EventType.TASK_FAILED, {"id": 1})
    trigger = await triggers.make("event", FAILED)
    await triggers.core.triggers.toggle(trigger.id, False)
    await triggers.tell(EventType.TASK_FAILED, {"id": 2})
    await triggers.core.triggers.toggle(trigger.id, True)
    await triggers.tell(EventType.TASK_FAILED, {"id": 3})
    await triggers.read()
    assert await keys(triggers, trigger) == ["event-3"]
    change = UpdateTrigger(config={"event_type": "task.completed"})
    await triggers.core.triggers.update(trigger.id, change)
    await triggers.tell(EventType.TASK_FAILED, {"id": 4})
    await triggers.tell(EventType.TASK_COMPLETED, {"id": 5})
    await triggers.read()
    assert await keys(triggers, trigger) == ["event-3", "event-5"]


async def test_a_reader_goes_on_where_the_last_one_died(
    triggers: Triggers, monkeypatch: pytest.MonkeyPatch
):
    trigger = await triggers.make("event", FAILED)
    await triggers.tell(EventType.TASK_FAILED, {"id": 1})
    await triggers.read()

    async def die(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    await triggers.tell(EventType.TASK_FAILED, {"id": 2})
    with monkeypatch.context() as dying:
        dying.setattr(triggers.consumer._listeners, "move", die)
        with pytest.raises(RuntimeError, match="killed"):
            await triggers.consumer.read()
    assert await keys(triggers, trigger) == ["event-1"]
    core = triggers.core
    another = EventConsumer(core.db, core.events, core.bus, core.trigger_dispatch)
    await another.read()
    assert await keys(triggers, trigger) == ["event-1", "event-2"]


async def test_of_two_readers_one_reads(triggers: Triggers):
    trigger = await triggers.make("event", FAILED)
    for number in range(30):
        await triggers.tell(EventType.TASK_FAILED, {"id": number})
    core = triggers.core
    readers = [
        EventConsumer(core.db, core.events, core.bus, core.trigger_dispatch) for _ in range(4)
    ]
    await asyncio.gather(*(reader.read() for reader in readers))
    assert len(await triggers.runs(trigger)) == 30


async def test_what_is_not_settled_is_waited_for(triggers: Triggers, postgres_url: str):
    trigger = await triggers.make("event", FAILED)
    async with await AsyncConnection.connect(postgres_url) as blocker:
        await blocker.execute("SELECT pg_current_xact_id()")
        await triggers.tell(EventType.TASK_FAILED, {"id": 1})
        await triggers.read()
        assert await triggers.runs(trigger) == []
    await triggers.read()
    assert await keys(triggers, trigger) == ["event-1"]


async def test_it_is_woken_by_the_bus(triggers: Triggers):
    trigger = await triggers.make("event", FAILED)
    running = asyncio.create_task(triggers.consumer.run())
    try:
        await triggers.tell(EventType.TASK_FAILED, {"id": 1})
        await until(lambda: triggers.runs(trigger), what="the firing")
        assert await keys(triggers, trigger) == ["event-1"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def ended(triggers: Triggers, trigger: Trigger, made: tuple[Made, int], depth: int) -> int:
    """Store a firing that left something behind, as its action would."""
    runs = triggers.core.firings._runs

    async def store(tx: Transaction) -> int:
        new = NewFiring(
            trigger_id=trigger.id,
            firing_key=f"test-{made[0]}-{made[1]}",
            event_data={},
            chain_depth=depth,
        )
        run_id = await runs.insert(tx, new)
        assert run_id is not None
        await runs.finish(tx, run_id, RunStatus.SUCCESS, result={}, error=None, made=made)
        return run_id

    async with triggers.core.db.transaction() as tx:
        return await store(tx)


async def test_what_its_own_action_caused_does_not_fire_it_again(triggers: Triggers):
    own = await triggers.make("event", {"event_type": "*"})
    other = await triggers.make("event", {"event_type": "*"})
    task = await triggers.task(depth=1)
    await ended(triggers, own, (Made.TASK, task), 0)
    agent = 41
    in_run = await triggers.task(depth=1, workflow_run_id=77, agent_id=agent)
    run = await ended(triggers, own, (Made.RUN, 77), 0)
    await triggers.tell(EventType.TASK_CREATED, {"id": task})
    await triggers.tell(EventType.APPROVAL_REQUESTED, {"id": 1, "task_id": task})
    await triggers.tell(EventType.WORKFLOW_STARTED, {"workflow_id": 1, "run_id": 77})
    await triggers.tell(EventType.TASK_FAILED, {"id": in_run})
    await triggers.tell(EventType.TRIGGER_FIRED, {"trigger_id": own.id, "run_id": run})
    await triggers.tell(EventType.AGENT_STATUS, {"id": agent}, agent_id=agent)
    await triggers.tell(EventType.TURN_STARTED, {}, conversation_id=1)
    before = len(await triggers.runs(own))
    await triggers.read()
    assert len(await triggers.runs(own)) == before
    fired = await triggers.runs(other)
    assert [one.chain_depth for one in fired] == [1] * 7


async def test_a_chain_ends_at_its_depth_with_a_reason(triggers: Triggers):
    trigger = await triggers.make("event", {"event_type": "task.created"})
    for depth in (MOST_CHAIN_DEPTH, MOST_CHAIN_DEPTH + 1):
        await triggers.tell(EventType.TASK_CREATED, {"id": await triggers.task(depth=depth)})
    await triggers.read()
    fired, skipped = await triggers.runs(trigger)
    assert (fired.status, fired.chain_depth) == (RunStatus.PENDING, MOST_CHAIN_DEPTH)
    assert skipped.status is RunStatus.SKIPPED
    assert "6 firings" in (skipped.error or "")
    after = await triggers.get(trigger)
    assert (after.fire_count, after.last_status) == (0, RunStatus.SKIPPED)
    await triggers.claim(trigger, fired.id)
    await triggers.act(fired.id)
    origin = triggers.tasks.asked[0].origin
    assert origin is not None
    assert origin.chain_depth == MOST_CHAIN_DEPTH + 1


async def test_two_triggers_that_wait_for_each_others_firings_come_to_an_end(triggers: Triggers):
    both = [await triggers.make("event", {"event_type": "trigger.fired"}) for _ in range(2)]
    first = await triggers.fire(both[0])
    assert first.status is RunStatus.SUCCESS
    for _ in range(4 * MOST_CHAIN_DEPTH):
        await triggers.read()
        for trigger in both:
            for run in await triggers.runs(trigger, RunStatus.PENDING):
                await triggers.claim(trigger, run.id)
                await triggers.act(run.id)
    depths = [run.chain_depth for trigger in both for run in await triggers.runs(trigger)]
    assert sorted(depths) == list(range(MOST_CHAIN_DEPTH + 1))
