"""Conversations on a real engine: who speaks, what is kept, how they end."""

from __future__ import annotations

import asyncio
from copy import copy

import pytest

from conclave.agents.commands import BusyPolicy, CreateAgent
from conclave.conversations.commands import Advance
from conclave.conversations.errors import (
    ConversationEnded,
    IdempotencyKeyReused,
    TurnFailed,
)
from schema.domain.conversations import ConversationStatus, MessageRole
from schema.domain.identity import LOCAL_PRINCIPAL
from tests.fakes.model_server import Behaviour, Failure, Received, Reply
from tests.harness.stack import Stack
from tests.waiting import until


async def test_agents_talk_in_order_until_max_turns(stack: Stack):
    agents = await stack.agents("Ada", "Bob", "Cyd")
    started = await stack.conversation(agents, initial_prompt="Begin.", max_turns=7)
    ended = await stack.reaches(started.id, ConversationStatus.COMPLETED)
    spoken = await stack.messages(started.id)
    assert [message.seq for message in spoken] == list(range(1, 9))
    assert spoken[0].role is MessageRole.USER
    assert spoken[0].content == "Begin."
    assert [message.agent_name for message in spoken[1:]] == [
        "Ada", "Bob", "Cyd", "Ada", "Bob", "Cyd", "Ada",
    ]  # fmt: skip
    assert ended.turn_count == 7
    assert ended.ended_at is not None
    assert ended.cost_usd == sum(message.cost_usd for message in spoken) > 0


async def test_advance_adds_the_prompt_and_one_turn(stack: Stack):
    agents = await stack.agents("Ada", "Bob")
    manual = await stack.conversation(agents, auto_run=False)
    assert manual.status is ConversationStatus.PENDING
    first = await advance(stack, manual.id, prompt="What about errors?")
    second = await advance(stack, manual.id)
    assert [message.role for message in first.messages] == [
        MessageRole.USER, MessageRole.ASSISTANT,
    ]  # fmt: skip
    assert first.messages[1].content.startswith("reply to What about errors?")
    assert first.conversation.turn_count == 1
    assert [message.agent_name for message in second.messages] == ["Bob"]
    assert (await stack.get(manual.id)).turn_count == 2


async def test_the_same_key_never_runs_a_second_turn(stack: Stack):
    agents = await stack.agents("Ada", "Bob")
    manual = await stack.conversation(agents, auto_run=False)
    first, again = await asyncio.gather(
        advance(stack, manual.id, prompt="Once", key="k1"),
        advance(stack, manual.id, prompt="Once", key="k1"),
    )
    await advance(stack, manual.id, prompt="Twice")
    later = await advance(stack, manual.id, prompt="Once", key="k1")
    assert first == again == later
    assert (await stack.get(manual.id)).turn_count == 2
    with pytest.raises(IdempotencyKeyReused):
        await advance(stack, manual.id, prompt="Something else", key="k1")


async def test_many_requests_at_once_are_all_answered_once(stack: Stack):
    agents = await stack.agents("Ada", "Bob")
    manual = await stack.conversation(agents, auto_run=False, max_turns=100)
    answers = await asyncio.gather(
        *(advance(stack, manual.id, prompt=f"ask {n}") for n in range(25))
    )
    assert sorted(answer.conversation.turn_count for answer in answers) == list(range(1, 26))
    for n, answer in enumerate(answers):
        assert answer.messages[0].content == f"ask {n}"
        assert f"ask {n} #" in answer.messages[1].content
    assert len(await stack.messages(manual.id)) == 50


async def test_a_completed_conversation_takes_one_more_turn(stack: Stack):
    agents = await stack.agents("Ada", "Bob")
    started = await stack.conversation(agents, max_turns=2)
    await stack.reaches(started.id, ConversationStatus.COMPLETED)
    await stack.client.get_workflow_handle(started.workflow_id).result()
    more = await advance(stack, started.id, prompt="And?")
    assert more.conversation.status is ConversationStatus.COMPLETED
    assert more.conversation.turn_count == 3
    assert (await stack.get(started.id)).workflow_id == f"conversation-{started.id}-2"


async def test_a_key_is_remembered_by_every_later_run(stack: Stack):
    agents = await stack.agents("Ada", "Bob")
    started = await stack.conversation(agents, max_turns=1)
    await stack.reaches(started.id, ConversationStatus.COMPLETED)
    first = await advance(stack, started.id, prompt="Once", key="k1")
    second = await advance(stack, started.id, prompt="Twice", key="k2")
    assert (first.conversation.execution, second.conversation.execution) == (2, 3)
    assert await advance(stack, started.id, prompt="Once", key="k1") == first
    assert (await stack.get(started.id)).turn_count == 3


async def test_the_others_go_on_without_a_deleted_agent_until_nobody_is_left(stack: Stack):
    agents = await stack.agents("Ada", "Bob")
    manual = await stack.conversation(agents, auto_run=False)
    await advance(stack, manual.id, prompt="Hello")
    await stack.core.agents.delete(agents[1].id, BusyPolicy.REFUSE)
    alone = await advance(stack, manual.id, prompt="Who is here?")
    assert alone.messages[-1].agent_name == "Ada"
    await stack.core.agents.delete(agents[0].id, BusyPolicy.REFUSE)
    with pytest.raises(TurnFailed, match="No agent is left to speak"):
        await advance(stack, manual.id, prompt="Nobody?")
    failed = await stack.get(manual.id)
    assert failed.status is ConversationStatus.FAILED
    assert failed.reason == "No agent is left to speak"
    assert failed.turn_count == 2


async def test_end_is_final(stack: Stack):
    agents = await stack.agents("Ada", "Bob")
    manual = await stack.conversation(agents, auto_run=False)
    await advance(stack, manual.id)
    ended = await stack.core.conversations.end(manual.id, LOCAL_PRINCIPAL)
    assert ended.status is ConversationStatus.COMPLETED
    assert await stack.core.conversations.end(manual.id, LOCAL_PRINCIPAL) == await stack.get(
        manual.id
    )
    with pytest.raises(ConversationEnded):
        await advance(stack, manual.id)
    handle = stack.client.get_workflow_handle(manual.workflow_id)
    await asyncio.wait_for(handle.result(), 10)


async def test_the_demo_answers_for_an_agent_of_the_demo_provider(stack: Stack):
    wanted = CreateAgent(name="Ada", provider="demo", model="demo")
    talk = await stack.conversation([await stack.core.agents.create(wanted)], auto_run=False)
    answer = await advance(stack, talk.id, prompt="Hello")
    assert answer.messages[-1].model == "demo"
    assert stack.model.requests == []


async def test_end_before_a_word_cancels(stack: Stack):
    agents = await stack.agents("Ada")
    manual = await stack.conversation(agents, auto_run=False)
    ended = await stack.core.conversations.end(manual.id, LOCAL_PRINCIPAL)
    assert ended.status is ConversationStatus.CANCELLED


async def test_end_stops_the_turn_that_runs(stack: Stack):
    stack.model.responder = lambda _: Reply(text="late", delay=20)
    agents = await stack.agents("Ada", "Bob")
    running = await stack.conversation(agents, max_turns=4)
    await until(lambda: stack.model.requests, what="a model call")
    ended = await stack.core.conversations.end(running.id, LOCAL_PRINCIPAL)
    assert ended.status is ConversationStatus.CANCELLED
    handle = stack.client.get_workflow_handle(running.workflow_id)
    await asyncio.wait_for(handle.result(), 10)
    assert await stack.messages(running.id) == []


@pytest.mark.parametrize("marker", ["[DONE]", "[COMPLETE]", "[FIN]", "[TERMINÉ]"])
async def test_an_end_marker_completes(stack: Stack, marker: str):
    stack.model.responder = lambda asked: Reply(
        text=f"enough {marker}" if asked.n == 2 else f"word {asked.n}"
    )
    agents = await stack.agents("Ada", "Bob")
    started = await stack.conversation(agents, max_turns=9)
    ended = await stack.reaches(started.id, ConversationStatus.COMPLETED)
    assert ended.turn_count == 2
    assert ended.final is False


async def test_a_refused_key_fails_the_turn_and_advance_tries_again(stack: Stack):
    stack.model.enqueue(Failure(401, "Incorrect API key provided: sk-test-key-123456"))
    agents = await stack.agents("Ada", "Bob")
    started = await stack.conversation(agents, max_turns=3)
    failed = await stack.reaches(started.id, ConversationStatus.FAILED)
    assert failed.reason is not None
    assert "sk-test-key-123456" not in failed.reason
    assert len(stack.model.requests) == 1
    again = await advance(stack, started.id, prompt="Try again")
    assert again.messages[1].content.startswith("reply to Try again")
    await stack.reaches(started.id, ConversationStatus.COMPLETED)


async def test_a_failed_turn_answers_its_request(stack: Stack):
    stack.model.enqueue(Failure(400, "no such thing"))
    agents = await stack.agents("Ada")
    manual = await stack.conversation(agents, auto_run=False)
    with pytest.raises(TurnFailed, match="no such thing"):
        await advance(stack, manual.id, prompt="Hello")


async def test_a_busy_provider_is_asked_again_when_it_says(stack: Stack):
    stack.model.enqueue(Failure(429, "slow down", retry_after="1"), Failure(500), Failure(503))
    agents = await stack.agents("Ada")
    manual = await stack.conversation(agents, auto_run=False)
    answer = await advance(stack, manual.id, prompt="Hello")
    assert answer.messages[1].content.startswith("reply to Hello")
    times = [request.at for request in stack.model.requests]
    assert len(times) == 4
    assert times[1] - times[0] >= 1.0


async def test_cancel_in_temporal_cancels_the_conversation(stack: Stack):
    stack.model.responder = lambda _: Reply(text="late", delay=20)
    agents = await stack.agents("Ada")
    running = await stack.conversation(agents)
    await until(lambda: stack.model.requests, what="a model call")
    await stack.client.get_workflow_handle(running.workflow_id).cancel()
    cancelled = await stack.reaches(running.id, ConversationStatus.CANCELLED)
    assert cancelled.reason == "Cancelled in Temporal"
    with pytest.raises(ConversationEnded):
        await advance(stack, running.id)


async def test_mentions_choose_who_speaks(stack: Stack):
    def responder(asked: Received) -> Behaviour:
        return Reply(text="@Cyd what do you say?" if asked.n == 1 else "Hm.")

    stack.model.responder = responder
    agents = await stack.agents("Ada", "Bob", "Cyd")
    started = await stack.conversation(agents, max_turns=3, turn_strategy="mention_based")
    await stack.reaches(started.id, ConversationStatus.COMPLETED)
    spoken = await stack.messages(started.id)
    assert [message.agent_name for message in spoken] == ["Ada", "Cyd", "Bob"]
    assert spoken[0].mentions == [agents[2].id]


async def test_a_prompt_names_who_speaks(stack: Stack):
    agents = await stack.agents("Ada", "Bob", "Cyd")
    manual = await stack.conversation(agents, auto_run=False, turn_strategy="free_form")
    asked = await advance(stack, manual.id, prompt="@bob, please")
    chosen = await advance(stack, manual.id, agent_id=agents[2].id)
    assert asked.messages[1].agent_name == "Bob"
    assert chosen.messages[0].agent_name == "Cyd"


async def advance(
    stack: Stack,
    conversation_id: int,
    *,
    prompt: str | None = None,
    key: str | None = None,
    agent_id: int | None = None,
):
    command = Advance(prompt=prompt, idempotency_key=key, agent_id=agent_id)
    answer = await stack.core.conversations.advance(
        conversation_id, command, LOCAL_PRINCIPAL, wait=True
    )
    assert answer.finished
    return answer


async def test_a_request_nobody_serves_in_time_is_accepted(stack: Stack):
    stack.model.responder = lambda _: Reply(text="slow", delay=3)
    agents = await stack.agents("Ada")
    manual = await stack.conversation(agents, auto_run=False)
    impatient = copy(stack.core.conversations)
    impatient._advance_wait_seconds = 0.2
    command = Advance(prompt="Hello", idempotency_key="once")
    accepted = await impatient.advance(manual.id, command, LOCAL_PRINCIPAL, wait=True)
    assert not accepted.finished
    answer = await advance(stack, manual.id, prompt="Hello", key="once")
    assert answer.messages[1].content == "slow"
    assert len(stack.model.requests) == 1
