"""Histories stay small, go on in new runs, and hold nothing that anybody said."""

from __future__ import annotations

import json

import pytest
from temporalio.client import WorkflowHistory

from conclave.conversations.commands import Advance
from conclave.conversations.errors import TurnFailed
from schema.domain.conversations import Conversation, ConversationStatus
from schema.domain.identity import LOCAL_PRINCIPAL
from tests.fakes.model_server import Behaviour, Failure, Received, Reply
from tests.harness.runs import chain
from tests.harness.stack import Stack
from tests.histories.files import opened_payloads, raw

TURNS = 100
TOKENS = 2_000
KEY = "sk-test-key-123456"
SPOKEN, TOPIC, PROMPT = "kolibri", "quetzal", "tukan"
SECRETS = (SPOKEN, TOPIC, PROMPT, KEY)


def long_reply(asked: Received) -> Behaviour:
    text = f"{SPOKEN} {asked.n} " + "and so on " * (TOKENS // 3)
    return Reply(text=text, chunks=2, usage=(1_000, TOKENS))


async def long_talk(stack: Stack, **fields: object) -> Conversation:
    stack.model.responder = long_reply
    agents = await stack.agents("Ada", "Bob", "Cyd")
    return await stack.conversation(agents, topic=f"About {TOPIC}", max_turns=TURNS, **fields)


async def texts(stack: Stack, history: WorkflowHistory) -> bytes:
    """Return all that a history says, as it is held and decrypted."""
    assert stack.core.codec is not None
    opened = await opened_payloads(history, stack.core.codec)
    assert opened
    return raw(history) + b"".join(payload.SerializeToString() for payload in opened)


async def assert_small_and_silent(stack: Stack, workflow_id: str) -> None:
    histories = await chain(stack.client, workflow_id)
    assert len(histories) >= 2
    for history in histories:
        assert len(history.events) < 2_000
        assert len(raw(history)) < 1_000_000
        assert len(json.dumps(history.to_json_dict())) < 1_000_000
        everything = await texts(stack, history)
        assert b'"conversation_id"' in everything
        for secret in SECRETS:
            assert secret.encode() not in everything


async def test_a_long_conversation_by_itself_leaves_small_silent_histories(stack: Stack):
    talk = await long_talk(stack, initial_prompt=f"Say what you know of {PROMPT}.")
    ended = await stack.reaches(talk.id, ConversationStatus.COMPLETED, timeout=90)
    assert ended.turn_count == TURNS
    spoken = await stack.messages(talk.id)
    assert [message.turn for message in spoken[1:]] == list(range(1, TURNS + 1))
    assert all(len(message.content.split()) >= TOKENS for message in spoken[1:])
    await assert_small_and_silent(stack, talk.workflow_id)


async def test_a_long_conversation_by_requests_leaves_small_silent_histories(stack: Stack):
    talk = await long_talk(stack, auto_run=False)

    async def ask(n: int) -> list[str]:
        command = Advance(prompt=f"{PROMPT} {n}", idempotency_key=f"{PROMPT}-{n}")
        answer = await stack.core.conversations.advance(
            talk.id, command, LOCAL_PRINCIPAL, wait=True
        )
        assert answer.finished
        return [message.content for message in answer.messages]

    answers = [await ask(n) for n in range(1, TURNS + 1)]
    assert [answer[0] for answer in answers] == [f"{PROMPT} {n}" for n in range(1, TURNS + 1)]
    await assert_small_and_silent(stack, talk.workflow_id)
    # The same keys again: runs ago, and in the last one.
    assert await ask(1) == answers[0]
    assert await ask(TURNS) == answers[-1]
    assert (await stack.get(talk.id)).turn_count == TURNS
    assert sum(not asked.summarises for asked in stack.model.requests) == TURNS


async def test_a_failure_that_quotes_prompt_and_key_keeps_both_out_of_the_history(stack: Stack):
    quoted = f"cannot answer {PROMPT} {TOPIC} with key {KEY}, reply was {SPOKEN}"
    stack.model.enqueue(Failure(500, quoted), Failure(429, quoted), Failure(400, quoted))
    agents = await stack.agents("Ada")
    talk = await stack.conversation(agents, topic=f"About {TOPIC}", auto_run=False)
    with pytest.raises(TurnFailed) as failure:
        await stack.core.conversations.advance(
            talk.id, Advance(prompt=f"What of {PROMPT}?"), LOCAL_PRINCIPAL, wait=True
        )
    public = quoted.replace(KEY, "***")
    assert public in failure.value.message
    [history] = await chain(stack.client, talk.workflow_id)
    assert len(stack.model.requests) == 3
    held, everything = raw(history), await texts(stack, history)
    assert public.encode() in everything
    beyond = everything.replace(public.encode(), b"")
    for secret in SECRETS:
        assert secret.encode() not in held
        assert secret.encode() not in beyond
