"""Long chats: real PostgreSQL, real Temporal, a scripted model with a small window."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from conclave.conversations.commands import Advance
from conclave.conversations.errors import CompactionFailed, ConversationEnded
from conclave.errors import BadRequest
from conclave.mailbox import Mailbox
from schema.domain.compaction import Compacted
from schema.domain.conversations import Conversation, ConversationKind, Message
from schema.domain.events import Event, EventType, conversation_stream
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.permissions import PermissionMode
from schema.payloads.agent_turn import CallOutcome
from schema.tables.compactions import CompactionRow
from schema.tables.conversations import ConversationRow
from schema.tables.model_calls import ModelCallRow
from tests.fakes.gateway import Killed
from tests.fakes.model_server import Behaviour, Failure, Received, Reply
from tests.fakes.profiles import Profiles, profile
from tests.fakes.toolbox import TestTools
from tests.harness.desk import Desk
from tests.harness.stack import MODEL, Stack, running_stack
from tests.waiting import until

WINDOW = 8192
THRESHOLD = WINDOW * 3 // 4
FACT = re.compile(r"The code of drawer \d+ is \w+\.")
FILLER = "Tell me more about the green tea of the north, please. " * 3
COMPACTIONS = (EventType.COMPACTION_STARTED, EventType.COMPACTED)


@pytest.fixture(scope="module")
def profiles() -> Profiles:
    return Profiles()


@pytest.fixture(scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> TestTools:
    directory: Path = tmp_path_factory.mktemp("tools")
    return TestTools(directory / "sent.txt")


@pytest.fixture(scope="module")
async def running(
    postgres_url: str, temporal_address: str, tools: TestTools, profiles: Profiles
) -> AsyncIterator[Stack]:
    async with running_stack(
        postgres_url, temporal_address, toolbox=tools.registry(), profiles=profiles
    ) as stack:
        yield stack


@pytest.fixture
async def stack(running: Stack, tools: TestTools, profiles: Profiles) -> Stack:
    tools.reset()
    profiles.known.clear()
    profiles.add(profile("small", MODEL, WINDOW), profile("large", "gpt-4o", 100_000))
    running.model.reset()
    running.model.responder = remember
    await running.core.permissions.update(PermissionMode.AUTONOMOUS.value, {})
    return running


def remember(received: Received) -> Behaviour:
    """Summarise by copying the facts, each once; answer anything else at some length."""
    if received.summarises:
        facts = dict.fromkeys(FACT.findall(received.last_user_text))
        return Reply(text=" ".join(facts) or "Nothing yet.")
    return Reply(text="The north grows its tea slowly, under cloth, and picks it late. " * 3)


async def chat(stack: Stack, profile_name: str | None = "small") -> Conversation:
    [agent] = await stack.agents("Ada")
    session = await stack.core.conversations.open_session(agent.id, None, LOCAL_PRINCIPAL)
    await switch(stack, session, profile_name, kind=ConversationKind.CHAT)
    return await stack.get(session.id)


async def switch(
    stack: Stack, talk: Conversation, profile_name: str | None, **fields: object
) -> None:
    async with stack.core.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == talk.id)
            .values(profile=profile_name, **fields)
        )


async def say(stack: Stack, talk: Conversation, text: str = FILLER) -> None:
    answer = await stack.core.conversations.advance(
        talk.id, Advance(prompt=text), LOCAL_PRINCIPAL, wait=True
    )
    assert answer.finished


async def say_all(stack: Stack, talk: Conversation, turns: int, size: int = 1) -> None:
    for turn in range(1, turns + 1):
        await say(stack, talk, f"The code of drawer {turn} is K{turn * 7919}. {FILLER * size}")


async def events(stack: Stack, talk: Conversation, *types: EventType) -> list[Event]:
    async with stack.core.db.transaction() as tx:
        found = await stack.core.events.of_stream(tx, conversation_stream(talk.id), after_seq=0)
    return [one for one in found if not types or one.type in types]


async def summaries(stack: Stack | Desk, talk: Conversation) -> list[tuple[int, bool]]:
    async with stack.core.db.transaction() as tx:
        rows = await tx.conn.execute(
            select(CompactionRow.through_seq, CompactionRow.finished)
            .where(CompactionRow.conversation_id == talk.id)
            .order_by(CompactionRow.id)
        )
        return [(seq, finished) for seq, finished in rows]


async def ledger(stack: Stack | Desk, talk: Conversation) -> list[tuple[int, str, str | None]]:
    async with stack.core.db.transaction() as tx:
        rows = await tx.conn.execute(
            select(ModelCallRow.step, ModelCallRow.status, ModelCallRow.error_code)
            .where(ModelCallRow.conversation_id == talk.id)
            .order_by(ModelCallRow.id)
        )
        return [(step, status, error) for step, status, error in rows]


async def transcript(stack: Stack, talk: Conversation) -> Sequence[Message]:
    page, _ = await stack.core.conversations.messages(
        talk.id, LOCAL_PRINCIPAL, after_seq=0, limit=2000
    )
    return page


def tokens(received: Received) -> int:
    """Count a request's body as litellm does."""
    import litellm

    body: dict[str, Any] = received.body
    counted: int = litellm.token_counter(
        model=body["model"], messages=body["messages"], tools=body.get("tools")
    )
    return counted


def sent(received: Received) -> str:
    return "\n".join(str(message.get("content")) for message in received.body["messages"])


async def test_three_hundred_turns_never_overflow_and_keep_thirty_facts(stack: Stack):
    talk = await chat(stack)
    facts = [f"The code of drawer {n} is K{n * 7919}." for n in range(1, 31)]
    for turn in range(300):
        fact = f"{facts[turn // 10]} " if turn % 10 == 0 else ""
        await say(stack, talk, f"{fact}{FILLER * 6}")
    await say(stack, talk, "What are the codes?")
    requests = stack.model.requests
    assert max(tokens(one) + one.body["max_tokens"] for one in requests) <= WINDOW
    last = sent(requests[-1])
    assert [fact for fact in facts if fact not in last] == []
    assert "What are the codes?" in last
    spoken = await transcript(stack, talk)
    assert len(spoken) == 602
    assert [fact for fact in facts if fact not in "\n".join(one.content for one in spoken)] == []
    told = await events(stack, talk, *COMPACTIONS)
    assert len(told) >= 10
    assert [one.type for one in told] == [*COMPACTIONS] * (len(told) // 2)
    for started, ended in zip(told[::2], told[1::2], strict=True):
        assert started.data["context_window"] == WINDOW
        assert started.data["tokens_before"] == ended.data["tokens_before"]
        before, after = ended.data["tokens_before"], ended.data["tokens_after"]
        assert isinstance(before, int)
        assert isinstance(after, int)
        assert after < THRESHOLD < before <= WINDOW
    context = await stack.core.compaction.context(talk.id)
    assert context.current_tokens == pytest.approx(tokens(requests[-1]), abs=2)
    assert (context.context_window, context.model) == (WINDOW, MODEL)
    assert 4 < context.turns < 300
    # Every summary is one call of its own, paid for in the ledger.
    calls = await ledger(stack, talk)
    assert sum(step == 0 for step, _, _ in calls) == len(await summaries(stack, talk))
    assert {status for _, status, _ in calls} == {"committed"}


async def test_compaction_is_told_between_the_question_and_the_turn(stack: Stack):
    talk = await chat(stack)
    await say_all(stack, talk, 10, size=20)
    types = [one.type for one in await events(stack, talk)]
    started = types.index(EventType.COMPACTION_STARTED)
    assert types[started - 1 : started + 3] == [
        EventType.MESSAGE_CREATED,
        EventType.COMPACTION_STARTED,
        EventType.COMPACTED,
        EventType.TURN_STARTED,
    ]


async def test_a_chat_speaks_with_its_profile_from_the_next_call_on(stack: Stack):
    talk = await chat(stack, None)
    await say(stack, talk)
    await switch(stack, talk, "large")
    await say(stack, talk)
    await switch(stack, talk, "gone")
    await say(stack, talk)
    assert [one.body["model"] for one in stack.model.requests] == [MODEL, "gpt-4o", MODEL]


async def test_a_profile_brings_its_key_and_its_limit(stack: Stack, profiles: Profiles):
    profiles.add(profile("own", MODEL, api_key="sk-of-the-profile", max_output_tokens=77))
    talk = await chat(stack, "own")
    await say(stack, talk)
    [received] = stack.model.requests
    assert received.headers["Authorization"] == "Bearer sk-of-the-profile"
    assert received.body["max_tokens"] == 77


async def test_an_address_of_a_profile_never_gets_the_providers_key(
    stack: Stack, profiles: Profiles
):
    profiles.add(profile("away", MODEL, base_url=stack.model.base_url))
    talk = await chat(stack, "away")
    await say(stack, talk)
    [received] = stack.model.requests
    assert "sk-test-key" not in received.headers["Authorization"]


async def test_a_switch_to_a_smaller_window_compacts_first(stack: Stack):
    talk = await chat(stack, "large")
    await say_all(stack, talk, 30, size=20)
    assert await summaries(stack, talk) == []
    assert tokens(stack.model.requests[-1]) > 2 * WINDOW
    await switch(stack, talk, "small")
    before = len(stack.model.requests)
    await say(stack, talk, "And now?")
    added = stack.model.requests[before:]
    assert [one.summarises for one in added] == [True] * (len(added) - 1) + [False]
    assert len(added) > 2
    assert max(map(tokens, added)) <= WINDOW
    assert len(FACT.findall(sent(added[-1]))) == 30
    # Several rounds are one compaction to whoever watches.
    [started, ended] = await events(stack, talk, *COMPACTIONS)
    assert started.data["tokens_before"] == ended.data["tokens_before"]
    assert ended.data["turns_removed"] == 27
    assert [finished for _, finished in await summaries(stack, talk)].count(True) == 1


async def test_a_provider_that_fails_is_asked_again_for_the_same_summary(stack: Stack):
    talk = await chat(stack)
    await say_all(stack, talk, 5, size=20)
    failures = 0

    def fail_twice(received: Received) -> Behaviour:
        nonlocal failures
        if received.summarises and failures < 2:
            failures += 1
            return Failure(503)
        return remember(received)

    stack.model.responder = fail_twice
    await say_all(stack, talk, 4, size=20)
    assert failures == 2
    assert len(await summaries(stack, talk)) == 1
    steps = [(status, error) for step, status, error in await ledger(stack, talk) if step == 0]
    failed = ("failed", "provider_unavailable")
    assert steps == [failed, failed, ("committed", None)]
    told = await events(stack, talk, *COMPACTIONS)
    assert [one.type for one in told] == [*COMPACTIONS]


async def test_a_turn_goes_on_where_nothing_can_be_summarised(stack: Stack):
    def refuse(received: Received) -> Behaviour:
        return Failure(400, "no summaries") if received.summarises else remember(received)

    stack.model.responder = refuse
    talk = await chat(stack)
    await say_all(stack, talk, 12, size=20)
    turns = [one for one in stack.model.requests if not one.summarises]
    assert len(turns) == 12
    assert max(map(tokens, stack.model.requests)) <= WINDOW
    assert "earlier messages are left out" in sent(turns[-1])
    assert "drawer 12 is" in sent(turns[-1])
    assert await summaries(stack, talk) == []
    told = await events(stack, talk, *COMPACTIONS)
    assert [one.type for one in told] == [*COMPACTIONS] * (len(told) // 2)
    assert [one.data["turns_removed"] for one in told[1::2]] == [0] * (len(told) // 2)
    assert "no summaries" in str(told[1].data["error"])
    # Once it can, nothing is lost.
    stack.model.responder = remember
    await say(stack, talk)
    assert len(FACT.findall(sent(stack.model.requests[-1]))) >= 12


async def test_giant_messages_and_giant_answers_of_tools_fit(stack: Stack):
    def look(received: Received) -> Behaviour:
        if received.body["messages"][-1]["role"] == "user":
            return Reply(tool_calls=[("keep", {"text": "w " * 30_000})])
        return Reply(text="done")

    stack.model.responder = look
    talk = await chat(stack)
    await say(stack, talk, "e " * 100_000 + "the end")
    first, second = stack.model.requests
    assert max(tokens(first), tokens(second)) <= WINDOW
    assert sent(first).endswith("the end")
    assert "characters are left out here" in sent(second)
    assert len((await transcript(stack, talk))[0].content) > 200_000


async def test_a_person_compacts(stack: Stack):
    talk = await chat(stack)
    await say_all(stack, talk, 6)
    before = await stack.core.compaction.context(talk.id)
    assert before.turns == 6
    done = await stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL)
    assert done.turns_removed == 2
    assert done.tokens_after < done.tokens_before
    after = await stack.core.compaction.context(talk.id)
    assert (after.turns, after.current_tokens) == (4, done.tokens_after)
    started, ended = await events(stack, talk, *COMPACTIONS)
    assert ended.data == {"conversation_id": talk.id, **done.model_dump()}
    assert started.data["context_window"] == WINDOW
    with pytest.raises(BadRequest, match="too few user turns"):
        await stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL)
    await say(stack, talk, "And?")
    assert "drawer 1 is" in sent(stack.model.requests[-1])
    assert (await stack.get(talk.id)).turn_count == 7


async def test_four_turns_are_too_few_to_compact(stack: Stack):
    talk = await chat(stack)
    await say_all(stack, talk, 4)
    with pytest.raises(BadRequest):
        await stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL)
    assert await events(stack, talk, *COMPACTIONS) == []


async def test_a_wish_to_compact_waits_for_the_turn_that_runs(stack: Stack, tools: TestTools):
    talk = await chat(stack)
    await say_all(stack, talk, 5)
    stack.model.script.append(Reply(tool_calls=[("wait", {"text": "x"})]))
    turn = asyncio.create_task(say(stack, talk))
    await tools.entered.wait()
    compacting = asyncio.create_task(stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL))
    await until(lambda: waits(stack, talk), what="the request to compact")
    later = asyncio.create_task(say(stack, talk, "the last word"))
    assert await events(stack, talk, *COMPACTIONS) == []
    tools.held.set()
    done, *_ = await asyncio.gather(compacting, turn, later)
    assert isinstance(done, Compacted)
    assert done.turns_removed == 2
    found = [one.type for one in await events(stack, talk)]
    started = found.index(EventType.COMPACTION_STARTED)
    assert EventType.TOOL_RESULT in found[:started]
    assert found[started - 1] is EventType.TURN_COMPLETED
    assert found[started + 1] is EventType.COMPACTED
    assert sent(stack.model.requests[-1]).endswith("the last word")


async def waits(stack: Stack, talk: Conversation) -> bool:
    async with stack.core.db.transaction() as tx:
        waiting = await Mailbox().waiting(tx, conversation_stream(talk.id))
    return len(waiting) == 2


async def test_a_compaction_that_fails_says_so_and_leaves_the_chat_as_it_was(stack: Stack):
    talk = await chat(stack)
    await say_all(stack, talk, 6)
    stack.model.script.append(Failure(400, "not today"))
    with pytest.raises(CompactionFailed, match="not today"):
        await stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL)
    await say(stack, talk, "Go on")
    assert "drawer 1 is" in sent(stack.model.requests[-1])
    done = await stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL)
    assert done.turns_removed == 3


async def test_an_ended_chat_is_not_compacted(stack: Stack):
    talk = await chat(stack)
    await say_all(stack, talk, 6)
    await stack.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    with pytest.raises(ConversationEnded):
        await stack.core.compaction.compact(talk.id, LOCAL_PRINCIPAL)


async def long_talk(desk: Desk) -> Conversation:
    """Six questions, of which five are answered, in a window that they all but fill."""
    talk = await desk.conversation(*await desk.agents("Ada"), max_turns=50)
    for turn in range(1, 6):
        item = await desk.ask(talk, f"question {turn} " + "x" * 70_000)
        spoken = await desk.complete(talk, item, turn=turn)
        assert spoken.outcome is CallOutcome.SPOKEN
    desk.gateway.reset()
    return talk


async def test_a_killed_compaction_is_done_again_and_stored_once(desk: Desk):
    talk = await long_talk(desk)
    item = await desk.ask(talk, "question 6 " + "x" * 40_000)
    desk.gateway.then(Killed())
    with pytest.raises(Killed):
        await desk.complete(talk, item, turn=6)
    again = await desk.complete(talk, item, turn=6, attempt=2)
    assert again.outcome is CallOutcome.COMPACTED
    spoken = await desk.complete(talk, item, turn=6)
    assert spoken.outcome is CallOutcome.SPOKEN
    assert len(await summaries(desk, talk)) == 1
    steps = [(step, status) for step, status, _ in await ledger(desk, talk)][-3:]
    assert steps == [(0, "unknown"), (0, "committed"), (1, "committed")]
    async with desk.core.db.transaction() as tx:
        found = await desk.core.events.of_stream(tx, conversation_stream(talk.id), after_seq=0)
    assert [one.type for one in found if one.type in COMPACTIONS] == [*COMPACTIONS]
    await desk.ledger(talk)


async def test_a_late_compaction_commits_nothing(desk: Desk):
    talk = await long_talk(desk)
    item = await desk.ask(talk, "question 6 " + "x" * 40_000)
    held = desk.gateway.hold("late")
    late = asyncio.create_task(desk.complete(talk, item, turn=6))
    await held.entered.wait()
    await desk.complete(talk, item, turn=6, attempt=2)
    held.released.set()
    with pytest.raises(Exception, match="later attempt"):
        await late
    assert len(await summaries(desk, talk)) == 1
    await desk.ledger(talk)
