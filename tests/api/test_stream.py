"""Event streams and sockets, over a real server and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import httpx
import pytest
from psycopg import AsyncConnection
from sqlalchemy import text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.stream import Hub
from api.subscriptions import QUEUE_LIMIT, Channel, Ending, Subscription
from conclave.adapters.bus.postgres import PostgresBus
from conclave.agents.commands import CreateAgent
from conclave.circles.commands import CreateCircle
from conclave.conversations.commands import CreateConversation
from conclave.db import Database
from schema.domain.conversations import Conversation
from schema.domain.events import Delta, Event, EventDraft, EventType, conversation_stream
from schema.domain.identity import LOCAL_PRINCIPAL, Principal, PrincipalKind, Role
from schema.domain.providers import ProviderName
from tests.api.live import Live, event_source, live_api
from tests.waiting import until

STRANGER = Principal(kind=PrincipalKind.USER, id=99)


@pytest.fixture
async def live(clean_database: Database, postgres_url: str) -> AsyncIterator[Live]:
    async with live_api(postgres_url) as live:
        yield live


@pytest.fixture
async def worker(postgres_url: str) -> AsyncIterator[PostgresBus]:
    """The bus of another process."""
    bus = PostgresBus(postgres_url, "worker under test")
    yield bus
    await bus.close()


@pytest.fixture
async def conversation(live: Live) -> Conversation:
    command = CreateAgent(name="dev", provider=ProviderName.OPENAI, model="m")
    agent = await live.core.agents.create(command)
    return await live.core.conversations.create(
        CreateConversation(topic="t", agent_ids=[agent.id], auto_run=False), LOCAL_PRINCIPAL
    )


def said(conversation_id: int, turn: int = 1, **fields: Any) -> EventDraft:
    values: dict[str, Any] = {
        "stream": conversation_stream(conversation_id),
        "type": EventType.MESSAGE_CREATED,
        "data": {"role": "assistant", "turn": turn, "content": f"turn {turn}"},
        "conversation_id": conversation_id,
    }
    return EventDraft.model_validate(values | fields)


def delta(conversation_id: int, text: str, offset: int = 0, **fields: Any) -> Delta:
    values: dict[str, Any] = {"circle_id": None, "owner": None, "agent_id": 1, "turn": 1}
    values |= {"step": 1, "attempt": 1, "offset": offset, "text": text}
    return Delta.model_validate({"conversation_id": conversation_id, **values, **fields})


async def append(live: Live, *drafts: EventDraft) -> None:
    async with live.core.db.transaction() as tx:
        await live.core.events.append(tx, drafts)


def events_url(live: Live, conversation: Conversation) -> str:
    return f"{live.http}/conversations/{conversation.id}/events"


async def heard(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        return json.loads(await socket.recv())


async def closed_with(socket: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            await heard(socket)
    return socket.close_code


# Server-sent events.


async def test_a_conversation_is_told_as_it_happens(
    live: Live, conversation: Conversation, worker: PostgresBus
) -> None:
    async with event_source(events_url(live, conversation)) as source:
        head = source.response.headers
        assert head["content-type"].startswith("text/event-stream")
        assert head["cache-control"] == "no-store"
        assert head["x-accel-buffering"] == "no"
        worker.publish(delta(conversation.id, "Hel"))
        first = await source.next()
        assert (first.id, first.event, first.data["text"]) == (
            None,
            "conversation.text_delta",
            "Hel",
        )
        await append(live, said(conversation.id))
        told = await source.next()
        assert told.event == told.body["type"] == "conversation.message"
        assert told.data["content"] == "turn 1"
        assert told.id == str(told.body["seq"])
        assert told.body["timestamp"].endswith("+00:00")


async def test_what_was_missed_is_replayed_and_then_it_goes_on_live(
    live: Live, conversation: Conversation
) -> None:
    await append(live, *(said(conversation.id, turn) for turn in range(1, 4)))
    async with event_source(events_url(live, conversation), **{"Last-Event-ID": "2"}) as source:
        await append(live, said(conversation.id, 4))
        ids = [(await source.next()).id for _ in range(3)]
    assert ids == ["3", "4", "5"], "the creation is 1, the messages follow"
    async with event_source(f"{events_url(live, conversation)}?after=0") as source:
        assert [(await source.next()).id for _ in range(5)] == ["1", "2", "3", "4", "5"]


async def test_nothing_is_missed_or_repeated_while_many_write_and_clients_reconnect(
    live: Live, conversation: Conversation
) -> None:
    total = 120

    async def write() -> None:
        for turn in range(1, total):
            await append(live, said(conversation.id, turn))

    async def read() -> list[int]:
        seen: list[int] = []
        while len(seen) < total:
            last = str(seen[-1] if seen else 0)
            async with event_source(
                events_url(live, conversation), **{"Last-Event-ID": last}
            ) as source:
                for _ in range(min(17, total - len(seen))):
                    seen.append(int((await source.next()).id or 0))
        return seen

    _, *readers = await asyncio.gather(write(), *(read() for _ in range(4)))
    assert readers == [list(range(1, total + 1))] * 4


async def test_an_id_from_the_future_does_not_silence_the_stream(
    live: Live, conversation: Conversation
) -> None:
    async with event_source(events_url(live, conversation), **{"Last-Event-ID": "999"}) as source:
        await append(live, said(conversation.id))
        assert (await source.next()).id == "2"


async def test_text_of_an_older_attempt_and_behind_its_message_is_left_out(
    live: Live, conversation: Conversation
) -> None:
    bus, number = live.core.bus, conversation.id
    async with event_source(events_url(live, conversation)) as source:
        bus.publish(delta(number, "old", attempt=1))
        bus.publish(delta(number, "new", attempt=2))
        bus.publish(delta(number, "late", 3, attempt=1))
        bus.publish(delta(number, "er", 3, attempt=2))
        bus.flush(number)
        texts = [(await source.next()).data["text"] for _ in range(3)]
        assert texts == ["old", "new", "er"]
        await append(live, said(number, 1))
        assert (await source.next()).event == "conversation.message"
        bus.publish(delta(number, "too late", 5, attempt=2))
        bus.publish(delta(number, "next turn", turn=2))
        assert (await source.next()).data["text"] == "next turn"


async def test_a_commit_held_back_by_another_transaction_is_told_without_the_poll(
    live: Live, conversation: Conversation, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.stream.POLL_SECONDS", 60.0)
    hub: Hub = live.app.state.hub
    async with await AsyncConnection.connect(postgres_url) as older:
        await older.execute("SELECT pg_current_xact_id()")
        async with event_source(events_url(live, conversation)) as source:
            await append(live, said(conversation.id))
            await until(lambda: hub._held_wait > 0.01, what="the hub to see what is held back")
            await older.rollback()
            assert (await source.next()).event == "conversation.message"


async def test_the_first_delta_takes_a_few_milliseconds(
    live: Live, conversation: Conversation, worker: PostgresBus
) -> None:
    took: list[float] = []
    async with event_source(events_url(live, conversation)) as source:
        for turn in range(1, 12):
            emitted = time.perf_counter()
            worker.publish(delta(conversation.id, "x", turn=turn))
            await source.next()
            took.append(time.perf_counter() - emitted)
    assert sorted(took)[len(took) // 2] < 0.06


async def test_streams_end_when_the_server_drains(live: Live, conversation: Conversation) -> None:
    async with (
        event_source(events_url(live, conversation)) as source,
        connect(f"{live.ws}/ws/dashboard") as socket,
    ):
        assert (await heard(socket))["type"] == "connection.established"
        live.app.state.draining.begin()
        assert await source.rest() == []
        assert await closed_with(socket) == 1012


async def test_a_client_that_leaves_is_forgotten(live: Live, conversation: Conversation) -> None:
    hub: Hub = live.app.state.hub
    async with event_source(events_url(live, conversation)), connect(f"{live.ws}/ws/dashboard"):
        await until(lambda: len(hub._subscriptions) == 2, what="both to be subscribed")
    await until(lambda: not hub._subscriptions, what="both to be forgotten")
    assert not hub._is_wanted, "where nobody watches, the hub does not read"


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 30])
async def test_a_last_event_id_that_is_no_seq_is_422(
    live: Live, conversation: Conversation, value: str
) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(events_url(live, conversation), headers={"Last-Event-ID": value})
        assert answer.status_code == 422
        assert "Last-Event-ID" in answer.text
        answer = await client.get(events_url(live, conversation), params={"after": value})
        assert answer.status_code == 422


async def test_events_of_an_unknown_conversation_are_404(live: Live) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{live.http}/conversations/777/events")
        assert (answer.status_code, "777" in answer.text) == (404, True)
        answer = await client.get(f"{live.http}/conversations/{'9' * 30}/events")
        assert answer.status_code in {404, 422}


# WebSocket channels.


async def test_sockets_show_their_channel_alone(live: Live, conversation: Conversation) -> None:
    circle = await live.core.circles.create(CreateCircle(name="red", display_name="Red"))
    agent_id = conversation.agent_ids[0]
    in_circle = said(555, circle_id=circle.id, data={"n": "circle"})
    of_agent = said(556, agent_id=agent_id, data={"n": "agent"})
    taking_part = said(557, data={"n": "part", "agent_ids": [agent_id]})
    own = said(conversation.id, data={"n": "own"})
    wanted = {
        "dashboard": ["circle", "agent", "part", "own"],
        "circles/red": ["circle"],
        f"agents/{agent_id}": ["agent", "part"],
        f"conversations/{conversation.id}": ["own"],
    }
    everybodys = {"n": "last", "agent_ids": [agent_id]}
    last = said(conversation.id, circle_id=circle.id, data=everybodys)
    for channel, notes in wanted.items():
        async with connect(f"{live.ws}/ws/{channel}") as socket:
            assert (await heard(socket))["type"] == "connection.established"
            await append(live, in_circle, of_agent, taking_part, own, last)
            frames = [await heard(socket)]
            while frames[-1]["data"]["n"] != "last":
                frames.append(await heard(socket))
        assert [frame["data"]["n"] for frame in frames] == [*notes, "last"]
        assert {frame["channel"] for frame in frames} == {channel}
        assert {"type", "data", "timestamp", "channel"} <= frames[0].keys()


async def test_text_goes_to_the_conversation_and_its_circle_and_agent(
    live: Live, conversation: Conversation
) -> None:
    circle = await live.core.circles.create(CreateCircle(name="red", display_name="Red"))
    for channel in ("circles/red", "agents/1", f"conversations/{conversation.id}"):
        async with connect(f"{live.ws}/ws/{channel}") as socket:
            await heard(socket)
            live.core.bus.publish(delta(conversation.id, channel, circle_id=circle.id, attempt=7))
            frame = await heard(socket)
        assert frame["type"] == "conversation.text_delta"
        assert frame["data"]["text"] == channel
        assert "owner" not in frame["data"]


async def test_a_socket_replays_what_came_after_a_seq(
    live: Live, conversation: Conversation
) -> None:
    await append(live, said(conversation.id, 1), said(conversation.id, 2))
    async with connect(f"{live.ws}/ws/conversations/{conversation.id}?after=1") as socket:
        frames = [await heard(socket) for _ in range(3)]
    assert [frame["type"] for frame in frames] == [
        "connection.established",
        "conversation.message",
        "conversation.message",
    ]
    assert [frame.get("seq") for frame in frames] == [None, 2, 3]


async def test_ping_is_answered_and_nonsense_gets_an_error_frame(live: Live) -> None:
    async with connect(f"{live.ws}/ws/dashboard") as socket:
        await heard(socket)
        for nonsense in ("{", "", "[1]", '{"type": "?"}', b"\x00", "[" * 50_000):
            await socket.send(nonsense)
            assert (await heard(socket))["type"] == "error"
        await socket.send('{"type": "ping"}')
        assert (await heard(socket))["type"] == "pong"


@pytest.mark.parametrize(
    "channel",
    [
        "nothing",
        "circles/none",
        "agents/99",
        "agents/x",
        f"agents/{'9' * 30}",
        "conversations/99",
        "conversations/x",
        "circles",
        "circles/%00",
        "conversations/1/more",
    ],
)
async def test_an_unknown_channel_closes_with_4004(live: Live, channel: str) -> None:
    async with connect(f"{live.ws}/ws/{channel}") as socket:
        assert await closed_with(socket) == 4004


async def test_a_foreign_page_cannot_open_a_socket(live: Live) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        await connect(f"{live.ws}/ws/dashboard", origin="http://evil.example")  # pyright: ignore[reportArgumentType] -- Origin is a NewType of str


# The hub.


async def test_private_events_go_to_their_owner_and_administrators(live: Live) -> None:
    hub: Hub = live.app.state.hub
    owner = Principal(kind=PrincipalKind.USER, id=7)
    channel = Channel("circles/x", circle_id=1)
    private: dict[str, Any] = {"owner": owner.key, "circle_id": 1}
    async with AsyncExitStack() as stack:

        async def watch(principal: Principal) -> AsyncGenerator[Delta | Event]:
            subscription = await stack.enter_async_context(hub.subscribe(channel, principal))
            return await stack.enter_async_context(aclosing(subscription.items()))

        entitled = [await watch(owner), await watch(LOCAL_PRINCIPAL)]
        stranger = await watch(STRANGER)
        async with asyncio.timeout(10):
            live.core.bus.publish(delta(600, "secret", **private))
            # The text is awaited first: nothing of a reply is told after its message.
            assert [(await anext(items)).conversation_id for items in entitled] == [600, 600]
            await append(live, said(600, **private), said(601, circle_id=1))
            for number in (600, 601):
                assert [(await anext(items)).conversation_id for items in entitled] == [number] * 2
            assert (await anext(stranger)).conversation_id == 601


async def test_a_notification_goes_to_its_user_alone(live: Live, database: Database) -> None:
    async with database.transaction() as tx:
        await tx.conn.execute(
            text(
                "INSERT INTO users (email, full_name, role, password_hash)"
                " VALUES ('ada@example.org', 'Ada', 'operator', '-')"
            )
        )
    hub: Hub = live.app.state.hub
    channel = Channel("dashboard")
    user = Principal(kind=PrincipalKind.USER, id=1, user_id=1, role=Role.OPERATOR)
    async with (
        asyncio.timeout(10),
        hub.subscribe(channel, user) as own,
        hub.subscribe(channel, LOCAL_PRINCIPAL) as administrator,
        aclosing(own.items()) as hers,
        aclosing(administrator.items()) as others,
    ):
        async with live.core.db.transaction() as tx:
            told = await live.core.notifications.notify(tx, title="t", message="m")
        await append(live, said(601))
        event = await anext(hers)
        assert isinstance(event, Event)
        assert event.type is EventType.NOTIFICATION
        created_at = event.data["created_at"]
        assert event.data == {
            "id": told[0], "title": "t", "message": "m", "level": "info", "created_at": created_at,
        }  # fmt: skip
        assert (await anext(others)).conversation_id == 601


async def test_a_client_that_lags_too_far_is_cut_off(live: Live) -> None:
    hub: Hub = live.app.state.hub
    async with hub.subscribe(Channel("dashboard"), LOCAL_PRINCIPAL) as subscription:
        await append(live, *(said(1, turn) for turn in range(QUEUE_LIMIT + 1)))
        await until(lambda: subscription.ending is Ending.TOO_SLOW, what="the cut")
        assert [item async for item in subscription.items()] == []


async def test_a_gap_between_what_the_hub_offers_is_mended_from_the_record(
    live: Live, conversation: Conversation
) -> None:
    number = conversation.id
    channel = Channel("c", conversation_id=number)
    subscription = Subscription(live.core.db, live.core.events, channel, LOCAL_PRINCIPAL)
    await subscription.begin(None)
    async with aclosing(subscription.items()) as items:
        subscription.offer(delta(number, "the replay is over"))
        assert isinstance(await anext(items), Delta)
        await append(live, *(said(number, turn) for turn in range(1, 5)))
        async with live.core.db.transaction() as tx:
            stored = await live.core.events.of_stream(tx, conversation_stream(number), after_seq=1)
        for event in (stored[2], stored[1], stored[0], stored[3]):
            subscription.offer(event)
        async with asyncio.timeout(10):
            seen = [await anext(items) for _ in range(4)]
    assert [item.seq for item in seen if isinstance(item, Event)] == [2, 3, 4, 5]


async def test_the_core_is_woken_by_the_next_event_of_a_stream(live: Live) -> None:
    hub: Hub = live.app.state.hub
    async with hub.subscribe(Channel("dashboard"), LOCAL_PRINCIPAL):
        waiting = asyncio.create_task(live.core.watchers.changed("s", timeout=60))
        await until(lambda: bool(live.core.watchers), what="the watcher")
        assert not waiting.done()
        await append(live, said(1, stream="s"))
        done, _ = await asyncio.wait({waiting}, timeout=10)
        assert waiting in done


async def test_the_core_is_woken_where_nobody_watched_before(live: Live) -> None:
    waiting = asyncio.create_task(live.core.watchers.changed("s", timeout=60))
    done, _ = await asyncio.wait({waiting}, timeout=10)
    assert waiting in done


async def test_streams_go_on_after_postgres_closed_the_connections_of_the_bus(
    live: Live, conversation: Conversation, postgres_url: str
) -> None:
    async with event_source(events_url(live, conversation)) as source:
        async with await AsyncConnection.connect(postgres_url, autocommit=True) as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'api under test%'"
            )
        await append(live, said(conversation.id))
        assert (await source.next()).event == "conversation.message"
