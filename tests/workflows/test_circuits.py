"""Circuits end to end: a dead provider behind a real socket, real workflows, the real API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from api.app import create_app
from conclave.breakers.commands import Configure
from conclave.conversations.commands import Advance
from conclave.conversations.errors import TurnFailed, TurnNotCalled
from schema.domain.breakers import Breaker, CircuitState
from schema.domain.conversations import Conversation, ConversationStatus
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.tasks import TaskStatus
from tests.fakes.model_server import Failure, Received, Reply
from tests.harness.stack import Stack
from tests.harness.tasks import agent, reaches, task
from tests.waiting import until

NAME = "llm:openai"


@pytest.fixture
async def talk(stack: Stack) -> AsyncIterator[Conversation]:
    yield await stack.conversation(await stack.agents("Ada"), auto_run=False)
    await stack.close_circuits()


async def configured(stack: Stack, **fields: int) -> None:
    await stack.core.breaker_desk.configure(Configure.model_validate({"name": NAME, **fields}))
    stack.core.breakers.forget()


async def ask(stack: Stack, talk: Conversation, prompt: str, *, wait: bool = True) -> list[str]:
    command = Advance(prompt=prompt)
    done = await stack.core.conversations.advance(talk.id, command, LOCAL_PRINCIPAL, wait=wait)
    return [message.content for message in done.messages]


async def breaker(stack: Stack) -> Breaker:
    return await stack.core.breaker_desk.get(NAME)


async def test_a_person_is_told_at_once_and_answered_once_it_is_closed(
    stack: Stack, talk: Conversation
):
    await configured(stack)
    await stack.core.breaker_desk.force_open(NAME, None)
    transport = httpx.ASGITransport(app=create_app(stack.settings, stack.core))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        path = f"/conversations/{talk.id}/advance"
        answer = await client.post(path, json={"prompt": "Hello"})
        assert answer.status_code == 503, answer.text
        assert "its circuit is open" in answer.json()["detail"]
        assert 1 < int(answer.headers["retry-after"]) <= 60
        failed = await stack.get(talk.id)
        assert failed.status is ConversationStatus.FAILED
        assert stack.model.requests == []
        await stack.core.breaker_desk.force_close(NAME)
        again = await client.post(path, json={"prompt": "Hello again"})
        assert again.status_code == 200, again.text
    said = [message.content for message in await stack.messages(talk.id)]
    assert said[0] == "Hello again"
    assert len(said) == 2


async def test_a_provider_that_died_is_left_alone_and_found_again(stack: Stack, talk: Conversation):
    stack.model.enqueue(Failure(500, times=5))
    with pytest.raises(TurnFailed, match="asked 5 times"):
        await ask(stack, talk, "Are you there?")
    assert (await breaker(stack)).state is CircuitState.OPEN
    with pytest.raises(TurnNotCalled) as error:
        await ask(stack, talk, "And now?")
    assert 50 < error.value.retry_after <= 60
    assert len(stack.model.requests) == 5
    await configured(stack, recovery_timeout_seconds=1, success_threshold=1)
    await until(lambda: is_due(stack), what="the recovery timeout")
    assert (await ask(stack, talk, "Hello"))[1].startswith("reply to Are you there?")
    asked = [message.content for message in await stack.messages(talk.id)]
    assert asked[:2] == ["Are you there?", "Hello"]  # what was not sent is not in the transcript
    found = await breaker(stack)
    assert [(move.from_state, move.to_state) for move in found.transitions] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


async def is_due(stack: Stack) -> bool:
    return (await breaker(stack)).is_due


async def test_a_task_waits_until_its_provider_is_back(stack: Stack):
    await configured(
        stack, failure_threshold=2, recovery_timeout_seconds=1, success_threshold=1
    )  # more probes than the tries of a turn
    dead_for = 6

    def respond(received: Received) -> Failure | Reply:
        return Failure(503) if len(stack.model.requests) <= dead_for else Reply("I am back")

    stack.model.responder = respond
    try:
        made = await task(stack, agent_id=(await agent(stack)).id)
        done = await reaches(stack, made.id, TaskStatus.COMPLETED, timeout=60)
        assert (done.result, done.attempt, done.retry_count) == ("I am back", 1, 0)
        assert len(stack.model.requests) == dead_for + 1
        found = await breaker(stack)
        opened = [move for move in found.transitions if move.to_state is CircuitState.OPEN]
        assert len(opened) == 1 + dead_for - 2
        pauses = [
            later.at - earlier.at
            for earlier, later in zip(
                stack.model.requests[1:], stack.model.requests[2:], strict=False
            )
        ]
        assert min(pauses) >= 1.0  # once it was open, never sooner than the recovery timeout
    finally:
        await stack.close_circuits()


async def test_a_wish_to_compact_is_answered_at_once_and_can_be_repeated(
    stack: Stack, talk: Conversation
):
    for number in range(6):
        await ask(stack, talk, f"Hello {number}")
    await stack.core.breaker_desk.force_open(NAME, None)
    with pytest.raises(TurnNotCalled) as error:
        await stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL)
    assert error.value.retry_after > 1
    assert (await stack.get(talk.id)).status is ConversationStatus.ACTIVE
    await stack.core.breaker_desk.force_close(NAME)
    done = await stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL)
    assert done.turns_removed == 2
