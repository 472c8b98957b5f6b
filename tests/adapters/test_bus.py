"""The buses: what is told arrives, in order, in few messages, and never fails its caller."""

from __future__ import annotations

import asyncio
import math
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace

import psycopg
import pytest

from conclave.adapters.bus.coalescing import POKE_INTERVAL, Coalescer
from conclave.adapters.bus.postgres import PAYLOAD_LIMIT, PostgresBus, parse_delta, payloads
from conclave.adapters.bus.redis import RedisBus
from conclave.adapters.bus.watchers import StreamWatchers
from conclave.ports.events import EventBus
from schema.domain.events import Delta
from tests.waiting import until


def delta(text: str, offset: int = 0, **fields: int) -> Delta:
    plain = {"conversation_id": 1, "agent_id": 5, "turn": 1, "step": 1, "attempt": 1}
    return Delta.model_validate(
        {"circle_id": None, "owner": None, "offset": offset, "text": text, **plain, **fields}
    )


class Ear:
    """Collects what a bus says."""

    def __init__(self) -> None:
        self.heard: list[Delta | None] = []

    @property
    def deltas(self) -> list[Delta]:
        return [item for item in self.heard if item is not None]

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.deltas)

    @property
    def wakes(self) -> int:
        return self.heard.count(None)


@asynccontextmanager
async def listening(bus: EventBus) -> AsyncGenerator[Ear]:
    ear = Ear()

    async def listen() -> None:
        async with aclosing(bus.listen()) as items:  # pyright: ignore[reportArgumentType] -- every bus makes generators
            async for item in items:
                ear.heard.append(item)

    task = asyncio.create_task(listen())
    await until(lambda: ear.wakes, what="the first wake-up, which says that it listens")
    ear.heard.clear()
    yield ear
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def bus(postgres_url: str) -> AsyncIterator[PostgresBus]:
    bus = PostgresBus(postgres_url, "test bus")
    yield bus
    await bus.close()


async def kill_connections(postgres_url: str, name: str) -> int:
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as conn:
        rows = await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            (name,),
        )
        return len(await rows.fetchall())


# What is told when: no clock but the caller's.


def test_the_first_piece_of_a_reply_is_due_at_once_and_the_rest_50_ms_apart() -> None:
    waiting = Coalescer()
    waiting.add(delta("a"), now=10.0)
    assert waiting.next_due() <= 10.0
    assert [piece.text for piece in waiting.take(10.0).deltas] == ["a"]
    waiting.add(delta("b", 1), now=10.01)
    waiting.add(delta("c", 2), now=10.02)
    assert not waiting.take(10.04)
    assert waiting.next_due() == pytest.approx(10.05)
    (piece,) = waiting.take(10.051).deltas
    assert (piece.text, piece.offset) == ("bc", 1)
    assert waiting.next_due() == math.inf


def test_a_new_attempt_is_told_at_once_behind_the_rest_of_the_old_one() -> None:
    waiting = Coalescer()
    waiting.add(delta("a"), now=0.0)
    waiting.take(0.0)
    waiting.add(delta("b", 1), now=0.01)
    waiting.add(delta("x", attempt=2), now=0.02)
    assert [(piece.attempt, piece.text) for piece in waiting.take(0.02).deltas] == [
        (1, "b"),
        (2, "x"),
    ]


def test_a_piece_that_does_not_follow_on_is_never_joined_to_the_one_before() -> None:
    waiting = Coalescer()
    waiting.add(delta("a"), now=0.0)
    waiting.take(0.0)
    waiting.add(delta("b", 1), now=0.01)
    waiting.add(delta("z", 9), now=0.02)
    pieces = [*waiting.take(0.1).deltas, *waiting.take(0.2).deltas]
    assert [(piece.offset, piece.text) for piece in pieces] == [(1, "b"), (9, "z")]


def test_a_flush_makes_the_text_of_that_conversation_due() -> None:
    waiting = Coalescer()
    for number in (1, 2):
        waiting.add(delta("a", conversation_id=number), now=0.0)
    waiting.take(0.0)
    for number in (1, 2):
        waiting.add(delta("b", 1, conversation_id=number), now=0.01)
    waiting.flush(2, now=0.02)
    assert [piece.conversation_id for piece in waiting.take(0.02).deltas] == [2]


def test_pokes_within_a_few_milliseconds_become_one() -> None:
    waiting = Coalescer()
    waiting.poke()
    waiting.poke()
    assert waiting.take(5.0).poke
    assert not waiting.take(5.0).poke
    waiting.poke()
    assert not waiting.take(5.001).poke
    assert waiting.next_due() == pytest.approx(5.0 + POKE_INTERVAL)
    assert waiting.take(5.0 + POKE_INTERVAL).poke


def test_conversations_that_fell_silent_are_forgotten() -> None:
    waiting = Coalescer()
    for number in range(1000):
        waiting.add(delta("a", conversation_id=number), now=0.0)
    waiting.take(0.0)
    waiting.take(100.0)
    waiting.add(delta("b", 1, conversation_id=3), now=100.0)
    assert waiting.take(100.0).deltas, "as the first piece of a new reply it is due at once"


@pytest.mark.parametrize("text", ["x" * 30_000, "\x01\n\"'" * 5_000, "ü€🜚" * 5_000, ""])
def test_payloads_stay_under_the_limit_and_join_to_the_same_text(text: str) -> None:
    encoded = payloads(delta(text, 40))
    assert all(len(payload.encode()) <= PAYLOAD_LIMIT for payload in encoded)
    pieces = [parse_delta(payload) for payload in encoded]
    joined = ""
    for piece in pieces:
        assert piece is not None
        assert piece.offset == 40 + len(joined)
        joined += piece.text
    assert joined == text


def test_what_another_version_wrote_is_passed_over() -> None:
    assert parse_delta('{"unknown": 1}') is None
    assert parse_delta("not json") is None


# On a real PostgreSQL.


async def test_a_poke_wakes_listeners_of_another_process(
    bus: PostgresBus, postgres_url: str
) -> None:
    other = PostgresBus(postgres_url, "other")
    async with listening(bus) as ear:
        other.poke()
        await until(lambda: ear.heard, what="the poke")
        assert ear.heard == [None]
    await other.close()


async def test_a_hundred_pokes_at_once_are_few_notifications(bus: PostgresBus) -> None:
    async with listening(bus) as ear:
        for _ in range(100):
            bus.poke()
        bus.publish(delta("last"))
        await until(lambda: ear.wakes and ear.deltas, what="both")
        assert ear.wakes <= 2


async def test_text_arrives_whole_in_order_and_in_fewer_pieces(bus: PostgresBus) -> None:
    words = [f"wörd{number} " for number in range(200)]
    async with listening(bus) as ear:
        offset = 0
        for word in words:
            bus.publish(delta(word, offset))
            offset += len(word)
        await until(lambda: ear.text == "".join(words), what="the whole text")
        assert len(ear.deltas) <= 3


async def test_long_text_is_split_and_keeps_its_order(bus: PostgresBus) -> None:
    text = "".join(f"{number}\n" for number in range(8000))
    async with listening(bus) as ear:
        bus.publish(delta(text))
        await until(lambda: len(ear.text) >= len(text), what="the whole text")
        assert ear.text == text
        assert len(ear.deltas) > 1


async def test_flushed_text_goes_ahead_of_the_poke(bus: PostgresBus) -> None:
    async with listening(bus) as ear:
        bus.publish(delta("a"))
        await until(lambda: ear.text == "a", what="the first piece")
        bus.publish(delta("b", 1))
        bus.flush(1)
        bus.poke()
        await until(lambda: ear.wakes, what="the poke")
        assert ear.text == "ab"


async def test_half_a_surrogate_pair_does_not_stop_the_bus(bus: PostgresBus) -> None:
    async with listening(bus) as ear:
        bus.publish(delta("a\ud83d"))
        bus.publish(delta("b", attempt=2))
        await until(lambda: ear.text.endswith("b"), what="the text after it")
        assert ear.text == "a?b"


async def test_a_listener_comes_back_and_says_look(bus: PostgresBus, postgres_url: str) -> None:
    async with listening(bus) as ear:
        assert await kill_connections(postgres_url, "test bus listener") == 1
        await until(lambda: ear.wakes, what="the wake-up after the reconnect")
        bus.publish(delta("again"))
        await until(lambda: ear.text == "again", what="text after the reconnect")


async def test_a_notifier_comes_back_and_tells_what_may_have_been_lost(
    bus: PostgresBus, postgres_url: str
) -> None:
    async with listening(bus) as ear:
        bus.poke()
        await until(lambda: ear.wakes, what="the first poke")
        assert await kill_connections(postgres_url, "test bus notifier") == 1
        ear.heard.clear()
        bus.poke()
        await until(lambda: ear.wakes, what="a poke over the new connection")


async def test_closing_tells_what_waits(bus: PostgresBus, postgres_url: str) -> None:
    other = PostgresBus(postgres_url, "other")
    async with listening(bus) as ear:
        other.publish(delta("a"))
        other.publish(delta("b", 1))
        other.poke()
        await other.close()
        await until(lambda: ear.wakes and len(ear.text) >= 2, what="everything")
        assert (ear.text, ear.wakes) == ("ab", 1)


async def test_a_bus_that_never_listens_has_one_connection(
    bus: PostgresBus, postgres_url: str
) -> None:
    async with listening(bus) as ear:
        lonely = PostgresBus(postgres_url, "lonely")
        lonely.poke()
        await until(lambda: ear.wakes, what="the poke")
        async with await psycopg.AsyncConnection.connect(postgres_url) as conn:
            rows = await conn.execute(
                "SELECT application_name FROM pg_stat_activity"
                " WHERE application_name LIKE 'lonely%'"
            )
            assert await rows.fetchall() == [("lonely notifier",)]
        await lonely.close()


# On Redis, and within a process.


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as server:
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


async def test_text_and_pokes_go_over_redis(redis_url: str) -> None:
    bus = RedisBus(redis_url, "test bus")
    async with listening(bus) as ear:
        bus.publish(delta("a"))
        bus.publish(delta("ü" * 9000, 1))
        bus.poke()
        await until(lambda: ear.wakes and len(ear.text) >= 9001, what="everything")
        assert (ear.text, ear.wakes) == ("a" + "ü" * 9000, 1)
    await bus.close()


# On either.


@pytest.mark.parametrize(
    ("kind", "url"),
    [(PostgresBus, "postgresql://x@127.0.0.1:{}/x"), (RedisBus, "redis://127.0.0.1:{}/0")],
)
async def test_where_its_server_is_away_callers_do_not_notice(
    kind: type[PostgresBus | RedisBus], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []

    def warning(event: str, **_: object) -> None:
        logged.append(event)

    monkeypatch.setattr("conclave.adapters.bus.notifier.log", SimpleNamespace(warning=warning))
    earlier = asyncio.all_tasks()  # another module's product may be running
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        bus = kind(url.format(taken.getsockname()[1]), "nobody")
        bus.poke()
        await until(lambda: logged, what="the connection to fail")
        for number in range(50):
            bus.publish(delta("a", number))
        bus.flush(1)
        async with asyncio.timeout(10):
            await bus.close()
    assert set(logged) == {"notifier_disconnected"}
    assert "bus-notifier" not in {task.get_name() for task in asyncio.all_tasks() - earlier}


async def test_whoever_watches_a_stream_is_woken_by_that_stream_alone() -> None:
    watchers = StreamWatchers()
    waits: list[str] = []
    watchers.on_wait = lambda: waits.append("began")
    one = asyncio.create_task(watchers.changed("one", timeout=30))
    two = asyncio.create_task(watchers.changed("two", timeout=0.05))
    await until(lambda: len(waits) == 2, what="both to wait")
    await until(two.done, what="the second to run out of time")
    assert not one.done()
    watchers.tell("one")
    await until(one.done, what="the first to be woken")
    assert not watchers
