"""The event log on a real PostgreSQL: gap-free streams, and readers that skip nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from psycopg import AsyncConnection
from sqlalchemy import text

from conclave.db import Database
from conclave.events import EventLog
from schema.domain.events import Delta, EventDraft, EventType

BEFORE_ALL = (0, 0)


def draft(stream: str, note: str = "", **fields: object) -> EventDraft:
    values: dict[str, object] = {"type": EventType.AGENT_UPDATED, "data": {"note": note}}
    return EventDraft.model_validate({"stream": stream, **values, **fields})


class CountingBus:
    """An `EventBus` that notes what it is told and passes nothing on."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def poke(self) -> None:
        self.told.append("poke")

    def flush(self, conversation_id: int) -> None:
        self.told.append(f"flush {conversation_id}")

    def publish(self, delta: Delta) -> None:
        self.told.append(f"text {delta.text}")

    async def listen(self) -> AsyncGenerator[Delta | None]:
        yield None


@pytest.fixture
def bus() -> CountingBus:
    return CountingBus()


@pytest.fixture
def log(bus: CountingBus) -> EventLog:
    return EventLog(bus)


@pytest.fixture
async def blocker(clean_database: Database, postgres_url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction that has its xid before any event of the test, and stays open."""
    conn = await AsyncConnection.connect(postgres_url)
    await conn.execute("SELECT pg_current_xact_id()")
    yield conn
    await conn.close()


async def append(database: Database, log: EventLog, *drafts: EventDraft) -> None:
    async with database.transaction() as tx:
        await log.append(tx, drafts)


async def notes_since(
    database: Database, log: EventLog, cursor: tuple[int, int] = BEFORE_ALL
) -> list[object]:
    async with database.transaction() as tx:
        page = await log.since(tx, cursor)
    return [event.data["note"] for event in page.events]


async def test_each_stream_counts_from_one_in_the_order_of_its_drafts(
    clean_database: Database, log: EventLog
) -> None:
    await append(clean_database, log, draft("b", "b1"), draft("a", "a1"), draft("b", "b2"))
    await append(clean_database, log, draft("b", "b3"), draft("b", "b4"))
    async with clean_database.transaction() as tx:
        of_a = await log.of_stream(tx, "a", after_seq=0)
        of_b = await log.of_stream(tx, "b", after_seq=1)
        assert await log.last_seq(tx, "b") == 4
        assert await log.last_seq(tx, "nobody") == 0
    assert [(event.seq, event.data["note"]) for event in of_a] == [(1, "a1")]
    assert [(event.seq, event.data["note"]) for event in of_b] == [(2, "b2"), (3, "b3"), (4, "b4")]
    assert await notes_since(clean_database, log) == ["b1", "a1", "b2", "b3", "b4"]


async def test_an_event_comes_back_as_it_was_given(clean_database: Database, log: EventLog) -> None:
    given = draft(
        "conversation-7",
        type=EventType.MESSAGE_CREATED,
        data={"text": 'Größe "x"\n€ 🜚', "n": 1.5, "none": None, "list": [1, {"a": []}]},
        conversation_id=7,
        circle_id=2,
        agent_id=3,
        owner="user:4",
    )
    await append(clean_database, log, given)
    async with clean_database.transaction() as tx:
        (event,) = await log.of_stream(tx, "conversation-7", after_seq=0)
    assert event.model_dump(include=set(EventDraft.model_fields)) == given.model_dump()
    assert event.created_at.tzinfo is not None


async def test_watchers_are_told_once_after_the_commit_and_not_without_one(
    clean_database: Database, log: EventLog, bus: CountingBus
) -> None:
    message = draft("conversation-7", type=EventType.MESSAGE_CREATED, conversation_id=7)
    async with clean_database.transaction() as tx:
        await log.append(tx, [message])
        await log.append(tx, [draft("a")])
        assert bus.told == []
    assert bus.told == ["flush 7", "poke"], "text goes ahead of the commit, the poke follows it"

    async def fail() -> None:
        async with clean_database.transaction() as tx:
            await log.append(tx, [draft("a")])
            raise RuntimeError("change of mind")

    with pytest.raises(RuntimeError, match="change of mind"):
        await fail()
    assert bus.told == ["flush 7", "poke"]


async def test_twenty_writers_at_once_leave_no_gap(clean_database: Database, log: EventLog) -> None:
    async def write(writer: int) -> None:
        for turn in range(10):
            shared, other = draft("shared", f"{writer}"), draft(f"own-{writer % 3}", "o")
            pair = (shared, other) if turn % 2 else (other, shared)
            with_failure = turn == 5
            try:
                async with clean_database.transaction() as tx:
                    await log.append(tx, pair)
                    if with_failure:
                        raise RuntimeError("rolled back")
            except RuntimeError:
                assert with_failure

    await asyncio.gather(*(write(writer) for writer in range(20)))
    async with clean_database.transaction() as tx:
        events = await log.of_stream(tx, "shared", after_seq=0)
        everything = await log.since(tx, BEFORE_ALL)
    assert [event.seq for event in events] == list(range(1, 181))
    assert len(everything.events) == 360


async def test_a_reader_does_not_skip_what_begins_first_and_commits_last(
    clean_database: Database, log: EventLog
) -> None:
    async with clean_database.transaction() as early:
        await early.conn.execute(text("SELECT pg_current_xact_id()"))
        await log.append(early, [draft("early", "early")])
        await append(clean_database, log, draft("late", "late"))
        async with clean_database.transaction() as tx:
            page = await log.since(tx, BEFORE_ALL)
        assert page.events == []
        assert page.held_back, "the reader is told to come back soon"
        cursor = page.cursor
    assert await notes_since(clean_database, log, cursor) == ["early", "late"]


async def test_what_a_rolled_back_transaction_held_back_is_read(
    clean_database: Database, log: EventLog, blocker: AsyncConnection
) -> None:
    await append(clean_database, log, draft("a", "a1"))
    assert await notes_since(clean_database, log) == []
    await blocker.rollback()
    assert await notes_since(clean_database, log) == ["a1"]


async def test_a_stream_is_read_in_order_where_an_older_transaction_appends_last(
    clean_database: Database, log: EventLog
) -> None:
    async with clean_database.transaction() as old:
        await old.conn.execute(text("SELECT pg_current_xact_id()"))
        await append(clean_database, log, draft("s", "first"))
        await log.append(old, [draft("s", "second")])
    assert await notes_since(clean_database, log) == ["first", "second"]


async def test_a_stream_is_not_read_past_a_lower_seq_that_is_still_held_back(
    clean_database: Database, log: EventLog, postgres_url: str
) -> None:
    async with clean_database.transaction() as old:
        await old.conn.execute(text("SELECT pg_current_xact_id()"))
        holder = await AsyncConnection.connect(postgres_url)
        await holder.execute("SELECT pg_current_xact_id()")
        await append(clean_database, log, draft("s", "first"))
        await log.append(old, [draft("other", "other"), draft("s", "second")])
    async with clean_database.transaction() as tx:
        page = await log.since(tx, BEFORE_ALL)
    assert [event.data["note"] for event in page.events] == ["other"]
    assert page.held_back
    await holder.rollback()
    await holder.close()
    async with clean_database.transaction() as tx:
        rest = await log.since(tx, page.cursor)
    assert [event.data["note"] for event in rest.events] == ["first", "second"]


async def test_pages_join_without_gap_or_repetition(
    clean_database: Database, log: EventLog
) -> None:
    for number in range(7):
        await append(clean_database, log, draft("a", f"{number}a"), draft("b", f"{number}b"))
    cursor, seen = BEFORE_ALL, list[object]()
    for _ in range(5):
        async with clean_database.transaction() as tx:
            page = await log.since(tx, cursor, limit=3)
        seen += [event.data["note"] for event in page.events]
        cursor = page.cursor
    assert seen == [f"{number}{stream}" for number in range(7) for stream in "ab"]


async def test_the_head_shows_only_what_comes_after_it(
    clean_database: Database, log: EventLog
) -> None:
    await append(clean_database, log, draft("a", "before"))
    async with clean_database.transaction() as running:
        await running.conn.execute(text("SELECT pg_current_xact_id()"))
        await log.append(running, [draft("b", "running")])
        async with clean_database.transaction() as tx:
            head = await log.head(tx)
        await append(clean_database, log, draft("a", "after"))
    assert await notes_since(clean_database, log, head) == ["running", "after"]


async def test_appending_nothing_tells_nobody(
    clean_database: Database, log: EventLog, bus: CountingBus
) -> None:
    await append(clean_database, log)
    assert bus.told == []


async def test_what_an_attempt_told_is_undone_with_it(clean_database: Database, log: EventLog):
    async with clean_database.transaction() as tx:
        await log.append(tx, [draft("a", "kept")])
        try:
            async with tx.attempt():
                await log.append(tx, [draft("a", "undone")])
                tx.after_commit.append(lambda: pytest.fail("told of what is undone"))
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        async with tx.attempt():
            await log.append(tx, [draft("a", "too")])
    async with clean_database.transaction() as tx:
        kept = await log.of_stream(tx, "a", after_seq=0)
    assert [(event.seq, event.data["note"]) for event in kept] == [(1, "kept"), (2, "too")]


async def test_events_lock_their_stream_for_the_commit_alone(
    clean_database: Database, log: EventLog
):
    async with clean_database.transaction() as tx:
        await log.append(tx, [draft("a", "second")])
        async with clean_database.transaction() as other, asyncio.timeout(10):
            await log.append(other, [draft("a", "first")])
    async with clean_database.transaction() as tx:
        kept = await log.of_stream(tx, "a", after_seq=0)
    assert [event.data["note"] for event in kept] == ["first", "second"]
