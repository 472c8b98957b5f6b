"""Which model answers while a provider does not: the turn over breakers in PostgreSQL."""

from __future__ import annotations

from asyncio import create_task, gather
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from pydantic import JsonValue
from sqlalchemy import delete, insert, select, update

from conclave.adapters.llm.catalogue import PriceMapCatalogue
from conclave.breakers.commands import Configure
from conclave.container import Core, build_core
from conclave.crypto import new_key
from conclave.db import Database
from conclave.errors import (
    CircuitOpen,
    CircuitStaysOpen,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
)
from conclave.settings import Settings
from schema.domain.agents import Agent
from schema.domain.conversations import Conversation, ConversationKind
from schema.domain.events import EventType, conversation_stream
from schema.domain.providers import ProviderAccess
from schema.payloads.agent_turn import CallOutcome
from schema.tables.agents import AgentRow
from schema.tables.breakers import BreakerRow
from schema.tables.conversations import ConversationRow, MessageRow
from schema.tables.events import EventRow
from schema.tables.model_calls import ModelCallRow
from tests.fakes.engine import FakeEngine
from tests.fakes.gateway import ScriptedGateway
from tests.harness.circuits import NAME, Site
from tests.harness.desk import Desk

OWN = ("openai", "gpt-4o-mini", None)
STEPS_IN = ("anthropic", "claude-haiku-4-5", "openai/gpt-4o-mini")
STEPS_IN_NEXT = ("mistral", "mistral-small", "openai/gpt-4o-mini")
DOWN = ProviderUnavailable("It is down", status=503)


@pytest.fixture(scope="module")
async def core(postgres_url: str) -> AsyncIterator[Core]:
    settings = Settings.model_validate(
        {"database_url": postgres_url, "encryption_key": new_key(), "advance_wait_seconds": 0.1}
    )
    keys = {f"{name}_API_KEY": "sk-test-123456" for name in ("OPENAI", "ANTHROPIC", "MISTRAL")}
    made = await build_core(settings, engine=FakeEngine(), name="desk", environment=keys)
    yield made
    await made.close()


@dataclass
class Plant:
    """Desks over breakers: each is a worker."""

    site: Site
    core: Core
    gateway: ScriptedGateway
    agents: list[Agent]
    """Who takes part in every talk of a test."""

    def worker(self) -> Desk:
        return Desk(self.core, FakeEngine(), self.gateway, self.site.process())

    async def talk(
        self, *fallbacks: tuple[str, str, str | None], kind: ConversationKind | None = None
    ) -> Conversation:
        """A conversation whose agents have fallbacks."""
        named = [{"provider": provider, "model": model} for provider, model, _ in fallbacks]
        talk = await self.worker().conversation(*self.agents)
        async with self.core.db.transaction() as tx:
            await tx.conn.execute(
                update(AgentRow)
                .where(AgentRow.id.in_(talk.agent_ids))
                .values(fallback_models=named)
            )
            if kind is not None:
                await tx.conn.execute(
                    update(ConversationRow).where(ConversationRow.id == talk.id).values(kind=kind)
                )
        return talk

    async def calls(self, talk: Conversation) -> list[tuple[str, str, str | None]]:
        """The models that were called, as the ledger has them."""
        async with self.core.db.transaction() as tx:
            rows = await tx.conn.execute(
                select(ModelCallRow.provider, ModelCallRow.model, ModelCallRow.fallback_for)
                .where(ModelCallRow.conversation_id == talk.id)
                .order_by(ModelCallRow.id)
            )
            return [(provider, model, wanted) for provider, model, wanted in rows]

    async def told(self, talk: Conversation, type_: EventType) -> list[dict[str, JsonValue]]:
        async with self.core.db.transaction() as tx:
            rows = await tx.conn.scalars(
                select(EventRow.data)
                .where(EventRow.stream == conversation_stream(talk.id), EventRow.type == type_)
                .order_by(EventRow.seq)
            )
            return [*rows]


@pytest.fixture
async def plant(core: Core, database: Database) -> AsyncIterator[Plant]:
    async with database.transaction() as tx:
        await tx.conn.execute(delete(BreakerRow))
    site = Site(database)
    gateway = ScriptedGateway()
    desk = Desk(core, FakeEngine(), gateway, site.process())
    yield Plant(site, core, gateway, await desk.agents("Ada", "Bob"))
    await site.close()


async def opened(plant: Plant, name: str = NAME) -> None:
    async with plant.core.db.transaction() as tx:
        await tx.conn.execute(delete(BreakerRow).where(BreakerRow.name == name))
    await plant.site.desk.configure(Configure(name=name))
    await plant.site.desk.force_open(name, None)


async def test_the_first_fallback_answers_while_the_own_circuit_is_open(plant: Plant):
    talk = await plant.talk(STEPS_IN, STEPS_IN_NEXT)
    await opened(plant)
    worker = plant.worker()
    spoken = await worker.complete(talk)
    assert spoken.outcome is CallOutcome.SPOKEN
    assert await plant.calls(talk) == [STEPS_IN]
    [said] = await worker.messages(talk)
    assert said.model == "claude-haiku-4-5"
    [started] = await plant.told(talk, EventType.TURN_STARTED)
    [message] = await plant.told(talk, EventType.MESSAGE_CREATED)
    assert (started["provider"], started["model"]) == STEPS_IN[:2]
    assert started["fallback_for"] == message["fallback_for"] == "openai/gpt-4o-mini"
    assert message["model"] == "claude-haiku-4-5"
    await plant.site.desk.force_close(NAME)
    plant.site.clock.now += 1.0
    await worker.complete(talk, turn=2)
    assert await plant.calls(talk) == [STEPS_IN, OWN]
    later = await plant.told(talk, EventType.TURN_STARTED)
    assert later[-1]["fallback_for"] is None
    assert "fallback_for" not in (await plant.told(talk, EventType.MESSAGE_CREATED))[-1]


async def test_the_next_one_answers_where_the_first_ones_circuit_is_open_too(plant: Plant):
    talk = await plant.talk(STEPS_IN, STEPS_IN_NEXT)
    await opened(plant)
    await opened(plant, "llm:anthropic")
    await plant.worker().complete(talk)
    assert await plant.calls(talk) == [STEPS_IN_NEXT]


async def test_a_step_goes_on_with_a_fallback_after_its_own_model_failed(plant: Plant):
    talk = await plant.talk(STEPS_IN, STEPS_IN_NEXT)
    worker = plant.worker()
    plant.gateway.then(DOWN, DOWN)
    for attempt in (1, 2):
        with pytest.raises(ProviderUnavailable):
            await worker.complete(talk, attempt=attempt)
    await worker.complete(talk, attempt=3)
    assert await plant.calls(talk) == [OWN, STEPS_IN, STEPS_IN_NEXT]
    await worker.complete(talk, turn=2)
    assert (await plant.calls(talk))[-1] == OWN


async def test_the_own_model_is_asked_again_once_all_have_failed(plant: Plant):
    talk = await plant.talk(STEPS_IN)
    worker = plant.worker()
    plant.gateway.then(DOWN, DOWN, DOWN, DOWN, DOWN)
    for attempt in range(1, 5):
        with pytest.raises(ProviderUnavailable):
            await worker.complete(talk, attempt=attempt)
    with pytest.raises(ProviderRefused, match="asked 5 times"):
        await worker.complete(talk, attempt=5)
    assert await plant.calls(talk) == [OWN, STEPS_IN, OWN, STEPS_IN, OWN]


async def test_a_fallback_without_a_key_or_of_no_provider_is_passed_over(plant: Plant):
    keyless, unknown = ("deepseek", "deepseek-chat", None), ("nobody", "nothing", None)
    talk = await plant.talk(unknown, keyless, OWN, STEPS_IN)
    await opened(plant)
    await plant.worker().complete(talk)
    assert await plant.calls(talk) == [STEPS_IN]


async def test_a_prompt_fits_into_the_fallbacks_window_and_nothing_is_summarised(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
):
    small = ("anthropic", "a-small-model", None)

    def window(_: object, access: ProviderAccess, model: str) -> int:
        return 20_000 if model == small[1] else 200_000

    monkeypatch.setattr(PriceMapCatalogue, "context_window", window)
    talk = await plant.talk(small)
    async with plant.core.db.transaction() as tx:
        said = [
            {"conversation_id": talk.id, "seq": seq, "role": "user", "content": "tea " * 8000,
             "execution": 1, "turn": 0, "step": 0}
            for seq in range(1, 7)
        ]  # fmt: skip
        for one in said:
            await tx.conn.execute(insert(MessageRow).values(one))
        await tx.conn.execute(
            update(ConversationRow).where(ConversationRow.id == talk.id).values(last_seq=6)
        )
    await opened(plant)
    worker = plant.worker()
    spoken = await worker.complete(talk)
    assert spoken.outcome is CallOutcome.SPOKEN
    [request] = plant.gateway.requests
    assert request.model == "a-small-model"
    assert sum(len(message.content) for message in request.messages) // 4 < 20_000
    assert len(request.messages) < 8


async def test_without_a_fallback_nothing_is_sent_reserved_or_claimed(plant: Plant):
    talk = await plant.talk()
    worker = plant.worker()
    item = await worker.ask(talk, "Hello")
    await opened(plant)
    with pytest.raises(CircuitStaysOpen) as error:
        await worker.complete(talk, item)
    assert (error.value.status, error.value.retryable) == (503, False)
    assert plant.gateway.requests == []
    assert await worker.ledger(talk) == []
    assert await worker.said(talk) == []
    assert await worker.waiting(talk) == [item]


async def test_a_task_waits_however_often_the_circuit_was_open(plant: Plant):
    talk = await plant.talk(kind=ConversationKind.TASK)
    await opened(plant)
    worker = plant.worker()
    for attempt in range(1, 9):
        with pytest.raises(CircuitOpen) as error:
            await worker.complete(talk, attempt=attempt)
        assert error.value.retryable
    await plant.site.desk.force_close(NAME)
    plant.site.clock.now += 1.0
    assert (await worker.complete(talk, attempt=9)).outcome is CallOutcome.SPOKEN
    assert len(await worker.ledger(talk)) == 1


async def test_a_task_waits_for_the_circuit_that_its_own_failures_opened(plant: Plant):
    talk = await plant.talk(kind=ConversationKind.TASK)
    worker = plant.worker()
    plant.gateway.then(*[DOWN] * 6)
    for attempt in range(1, 6):
        with pytest.raises(ProviderUnavailable) as failure:
            await worker.complete(talk, attempt=attempt)
        assert failure.value.retryable
    with pytest.raises(CircuitOpen):
        await worker.complete(talk, attempt=6)
    await plant.site.pass_time(61)
    with pytest.raises(ProviderUnavailable):
        await worker.complete(talk, attempt=7)
    await plant.site.pass_time(61)
    assert (await worker.complete(talk, attempt=8)).outcome is CallOutcome.SPOKEN


async def test_a_person_waits_shortly_for_a_probe_and_not_for_ever(plant: Plant):
    talk = await plant.talk()
    worker = plant.worker()
    await plant.site.configured(half_open_max_requests=1)
    for _ in range(5):
        plant.gateway.then(DOWN)
        with pytest.raises(ProviderUnavailable):
            await worker.complete(await plant.talk())
    await plant.site.pass_time(61)
    held = plant.gateway.hold("back again")
    probing = create_task(worker.complete(await plant.talk()))
    await held.entered.wait()
    for attempt in (1, 2, 3):
        with pytest.raises(CircuitOpen) as error:
            await worker.complete(talk, attempt=attempt)
        assert error.value.retryable
    with pytest.raises(CircuitStaysOpen):
        await worker.complete(talk, attempt=4)
    held.released.set()
    await probing


@pytest.mark.parametrize(
    ("error", "opens"),
    [
        (ProviderUnavailable("broken", status=500), True),
        (ProviderUnavailable("overloaded", status=529), True),
        (ProviderUnavailable("no connection"), True),
        (ProviderTimeout("too slow", status=408), True),
        (ProviderUnavailable("limits the rate", 3.0, status=429), False),
        (ProviderRefused("wrong key", status=401), False),
    ],
)
async def test_what_opens_a_circuit(plant: Plant, error: Exception, opens: bool):
    worker = plant.worker()
    for _ in range(5):
        plant.gateway.then(error)
        with pytest.raises(type(error)):
            await worker.complete(await plant.talk())
    talk = await plant.talk()
    if opens:
        with pytest.raises(CircuitOpen):
            await worker.complete(talk)
    else:
        await worker.complete(talk)


async def test_two_hundred_tasks_and_a_dead_provider(plant: Plant):
    """What reaches it: what was in flight when the circuit opened, and then the probes alone."""
    plant.gateway.dead = True
    workers = [plant.worker(), plant.worker()]
    talks = [await plant.talk(kind=ConversationKind.TASK) for _ in range(200)]
    open_tasks = set(range(200))

    async def one(number: int, attempt: int) -> None:
        try:
            await workers[number % 2].complete(talks[number], attempt=attempt)
        except (ProviderUnavailable, CircuitOpen):
            return
        open_tasks.discard(number)

    async def all_of_them(attempt: int) -> int:
        """Let every task that is open be tried at once; return how many calls were sent."""
        before = len(plant.gateway.requests)
        await gather(*(one(number, attempt) for number in sorted(open_tasks)))
        return len(plant.gateway.requests) - before

    pool = plant.core.settings.database_pool_size
    assert 5 <= await all_of_them(1) <= len(workers) * 5 + pool
    assert (await plant.site.breaker()).state == "open"
    for attempt in (2, 3):
        assert await all_of_them(attempt) == 0
    for attempt in (4, 5, 6):
        await plant.site.pass_time(61)
        assert 1 <= await all_of_them(attempt) <= 3
        assert (await plant.site.breaker()).state == "open"
    assert len(open_tasks) == 200
    plant.gateway.dead = False
    attempt = 7
    while open_tasks:
        await plant.site.pass_time(61)
        await all_of_them(attempt)
        attempt += 1
    assert attempt < 20
    assert (await plant.site.breaker()).state == "closed"
    for talk in talks:
        ledger = await workers[0].ledger(talk)
        assert [entry.status for entry in ledger].count("committed") == 1
