"""Slots of activities: no more are begun than the loop takes up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from temporalio.worker import (
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)

from tests.waiting import until
from worker.slots import POLLS, ActivitySlots

_ASKED = cast(SlotReserveContext, SimpleNamespace())


def used(slots: ActivitySlots, permit: SlotPermit) -> None:
    slots.mark_slot_used(cast(SlotMarkUsedContext, SimpleNamespace(permit=permit)))


def released(slots: ActivitySlots, permit: SlotPermit) -> None:
    slots.release_slot(SlotReleaseContext(slot_info=None, permit=permit))


def taken(slots: ActivitySlots) -> list[SlotPermit]:
    """Take every slot that there is."""
    permits: list[SlotPermit] = []
    while (permit := slots.try_reserve_slot(_ASKED)) is not None:
        permits.append(permit)
    return permits


async def test_only_so_many_wait_to_be_taken_up():
    slots = ActivitySlots(100)
    held = taken(slots)
    assert POLLS < len(held) < 20
    for permit in held[:3]:
        used(slots, permit)
    assert taken(slots) == [], "they are on their way"
    slots.taken_up()
    slots.taken_up()
    assert len(taken(slots)) == 2, "each that has begun makes room for another one"


async def test_no_more_run_than_may():
    slots = ActivitySlots(2)
    first, second = taken(slots)
    for permit in (first, second):
        used(slots, permit)
        slots.taken_up()
    assert taken(slots) == []
    released(slots, first)
    assert len(taken(slots)) == 1


async def test_who_asks_waits_for_a_slot_that_another_thread_gives_back():
    slots = ActivitySlots(1)
    [held] = taken(slots)
    asking = asyncio.create_task(slots.reserve_slot(_ASKED))
    late = asyncio.create_task(slots.reserve_slot(_ASKED))
    await asyncio.to_thread(released, slots, held)
    permit = await asyncio.wait_for(asking, 10)
    assert not late.done()
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    await asyncio.to_thread(released, slots, permit)
    assert await asyncio.wait_for(slots.reserve_slot(_ASKED), 10) is not permit


async def test_a_slot_given_to_somebody_who_left_is_given_back():
    slots = ActivitySlots(1)
    [held] = taken(slots)
    asking = asyncio.create_task(slots.reserve_slot(_ASKED))
    await asyncio.sleep(0)
    released(slots, held)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    free = await until(lambda: taken(slots), what="the slot to be free")
    assert len(free) == 1


async def test_activities_that_never_begin_leave_nothing_behind():
    slots = ActivitySlots(100)
    most = len(held := taken(slots))
    for _ in range(3):
        for permit in held:
            used(slots, permit)
            released(slots, permit)
        held = taken(slots)
        assert len(held) == most
