"""The REST client and the socket that outlives its connections."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import pytest

from conclave.terminal.client import Client
from conclave.terminal.errors import AddressRefused, ServerRefused, ServerUnreachable
from conclave.terminal.server import Server, check_address
from conclave.terminal.stream import ChatStream, Lost
from conclave.terminal.wire import Frame
from tests.fakes.chat_server import CHAT, TOKEN, ChatServer, approval, running_chat_server
from tests.harness.servers import free_port
from tests.waiting import until


class Listener:
    """Everything a stream gave so far."""

    def __init__(self, stream: ChatStream) -> None:
        self.stream = stream
        self.frames: list[Frame] = []
        self.losses: list[Lost] = []

    def texts(self) -> list[str]:
        return [frame.text("text") for frame in self.frames if frame.type == "agent.text"]

    async def run(self) -> None:
        async with aclosing(self.stream.items()) as items:
            async for item in items:
                if isinstance(item, Lost):
                    self.losses.append(item)
                else:
                    self.frames.append(item)


@asynccontextmanager
async def listening(fake: ChatServer, *, after: int | None = 0) -> AsyncGenerator[Listener]:
    listener = Listener(ChatStream(fake.server, CHAT, after=after))
    task = asyncio.create_task(listener.run())
    try:
        await until(lambda: fake.is_watched, what="the connection")
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_cut_connections_lose_and_repeat_no_frame():
    async with running_chat_server() as fake, listening(fake) as listener:
        for number in range(30):
            if number % 10 == 3:
                fake.cut()  # and what follows is told to nobody until the client is back
            if number % 10 == 6:
                await until(lambda: fake.is_watched, what="another connection")
            await fake.tell("agent.text", {"text": str(number)})
        await until(lambda: len(listener.texts()) >= 30, what="all frames")
        assert listener.texts() == [str(number) for number in range(30)]
        assert len(listener.losses) == 3
        assert fake.connections[0] == "0"
        assert all(after is not None for after in fake.connections)


async def test_a_frame_that_is_told_again_is_dropped():
    async with running_chat_server() as fake, listening(fake) as listener:
        await fake.tell("agent.text", {"text": "one"})
        await until(listener.texts)
        fake.events.insert(0, {**fake.events[0], "data": {"text": "again"}})
        fake.cut()
        await until(lambda: len(fake.connections) == 2 and fake.is_watched)
        await fake.tell("agent.text", {"text": "two"})
        await until(lambda: listener.texts()[-1] == "two")
        assert listener.texts() == ["one", "two"]


async def test_a_chat_gone_on_with_misses_nothing_from_its_greeting_on():
    async with running_chat_server() as fake:
        await fake.tell("agent.text", {"text": "of before"})
        async with listening(fake, after=None) as listener:
            await until(lambda: listener.frames)
            fake.cut()
            await fake.tell("agent.text", {"text": "while away"})
            await until(listener.texts)
            assert listener.texts() == ["while away"]
            assert fake.connections == [None, "1"]


async def test_a_server_that_restarts_is_waited_for():
    async with running_chat_server() as fake:
        fake.refuses_connections = 2
        async with listening(fake) as listener:
            await fake.tell("agent.text", {"text": "hello"})
            await until(listener.texts)
            assert [loss.reason for loss in listener.losses] == ["the server answered 503"] * 2


@pytest.mark.parametrize(
    ("token", "chat_id", "said"),
    [("another", CHAT, "The token does not hold"), (TOKEN, "no-chat", "There is no such chat")],
)
async def test_a_socket_that_is_refused_for_good_is_not_tried_again(
    token: str, chat_id: str, said: str
):
    async with running_chat_server() as fake:
        stream = ChatStream(Server(fake.url, token), chat_id, after=0)
        with pytest.raises(ServerRefused, match=said):
            await Listener(stream).run()


async def test_patience_ends_where_nobody_answers():
    server = Server(f"http://127.0.0.1:{free_port()}", TOKEN)
    with pytest.raises(ServerRefused, match="Given up"):
        await Listener(ChatStream(server, CHAT, after=0, patience=0.0)).run()


async def test_the_token_shows_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture):
    for name in ("httpx", "httpcore", "websockets", "websockets.client"):
        caplog.set_level(logging.DEBUG, logger=name)
    async with running_chat_server() as fake, listening(fake) as listener:
        await until(lambda: listener.frames)
        async with Client(fake.server) as client:
            await client.turns(CHAT)
        assert TOKEN not in repr(fake.server)
    nowhere = Server(f"http://127.0.0.1:{free_port()}", TOKEN)
    async with Client(nowhere) as client:
        with pytest.raises(ServerUnreachable) as raised:
            await client.turns(CHAT)
    assert TOKEN not in str(raised.value)
    assert "HTTP Request" in caplog.text  # what httpx logs was looked at
    assert TOKEN not in caplog.text


async def test_refusals_are_told_in_the_servers_words():
    flaws = [{"loc": ["body", "mode"], "msg": "unknown mode", "type": "value_error"}]
    async with running_chat_server() as fake:
        fake.answers["PUT", "/api/permissions"] = (422, {"detail": flaws})
        fake.answers["GET", "/api/profiles"] = (502, ["odd"])
        fake.answers["GET", "/api/permissions"] = (200, {"other": 1})
        async with Client(fake.server) as client:
            with pytest.raises(ServerRefused, match="unknown mode"):
                await client.set_mode("wild")
            with pytest.raises(ServerRefused, match="The server answered 502"):
                await client.profiles()
            with pytest.raises(ServerUnreachable, match="does not answer as Conclave"):
                await client.permissions()
        async with Client(Server(fake.url, "wrong")) as client:
            with pytest.raises(ServerRefused, match="The token does not hold"):
                await client.permissions()


async def test_all_that_waits_is_found_over_several_pages():
    waiting = [approval(number) for number in range(1, 452)]
    async with running_chat_server(approvals=waiting) as fake, Client(fake.server) as client:
        found = await client.waiting()
        assert sorted(one.id for one in found) == list(range(1, 452))


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://x", "http://", "http://u:p@x", "http://x?a=1", "http://x:no"]
)
def test_an_address_that_is_none_is_refused(url: str):
    with pytest.raises(AddressRefused):
        check_address(url)
