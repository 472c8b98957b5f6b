"""What was read is believed for a second, unless this process knows better."""

from __future__ import annotations

import asyncio

import pytest

from conclave.believed import FRESH_SECONDS, Believed
from tests.waiting import until


class Source:
    """A record that counts how often it is read, and a clock."""

    def __init__(self) -> None:
        self.value = "old"
        self.reads = 0
        self.now = 100.0
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    async def read(self) -> str:
        self.reads += 1
        value = self.value
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value

    def believed(self) -> Believed[str]:
        return Believed(self.read, "first", clock=lambda: self.now)


async def test_many_askers_cost_one_read_a_second():
    source = Source()
    believed = source.believed()

    assert await asyncio.gather(*(believed.get() for _ in range(50))) == ["old"] * 50
    source.now += FRESH_SECONDS * 0.9
    source.value = "new"
    assert (await believed.get(), source.reads) == ("old", 1)
    source.now += FRESH_SECONDS * 0.1
    assert (await believed.get(), source.reads) == ("new", 2)


async def test_what_is_last_known_costs_nothing():
    source = Source()
    believed = source.believed()

    assert believed.last == "first"
    await believed.get()
    source.now += 100
    assert (believed.last, source.reads) == ("old", 1)


async def test_a_change_of_this_process_holds_at_once():
    source = Source()
    believed = source.believed()
    await believed.get()

    source.value = "new"
    believed.replace("new")
    assert believed.last == "new"
    assert await believed.get() == "new"
    source.value = "newer"
    believed.forget()
    assert (await believed.get(), source.reads) == ("newer", 3)


async def test_a_read_that_a_change_overtook_is_not_believed():
    source = Source()
    believed = source.believed()
    source.gate = asyncio.Event()
    asked = asyncio.create_task(believed.get())
    await until(lambda: source.reads == 1, what="the old value to be on its way back")

    source.value = "new"
    believed.forget()
    source.gate.set()

    assert (await asked, source.reads) == ("new", 2)


async def test_a_read_that_fails_is_told_and_tried_again():
    source = Source()
    believed = source.believed()
    await believed.get()
    source.now += FRESH_SECONDS
    source.error = RuntimeError("away")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="away"):
            await believed.get()
    assert (believed.last, source.reads) == ("old", 3)
