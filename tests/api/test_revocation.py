"""Sockets and streams under AUTH_MODE=required, over a real server: who comes in, who must go."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from conclave.agents.commands import CreateAgent
from conclave.conversations.commands import CreateConversation
from conclave.errors import Forbidden, Unavailable
from conclave.security.commands import NewIpRule
from conclave.settings import AuthMode
from schema.domain.conversations import Conversation
from schema.domain.identity import Role
from schema.domain.providers import ProviderName
from schema.domain.security import IpAction
from tests.api.live import Live, event_source, live_api, serving
from tests.fakes.callers import CALLERS, FakeAuthenticator, bearer, token_of, user

OPERATOR = CALLERS["operator"]


@pytest.fixture
def authenticator() -> FakeAuthenticator:
    return FakeAuthenticator()


@pytest.fixture
async def live(clean_database, postgres_url, authenticator) -> AsyncIterator[Live]:
    async with live_api(
        postgres_url,
        auth_mode=AuthMode.REQUIRED,
        authenticator=authenticator,
        recheck_seconds=0.05,
    ) as live:
        yield live


@pytest.fixture
async def patient(clean_database, postgres_url, authenticator) -> AsyncIterator[Live]:
    """Asks again so seldom that only an expiry can be noticed within a test."""
    async with live_api(
        postgres_url,
        auth_mode=AuthMode.REQUIRED,
        authenticator=authenticator,
        recheck_seconds=600,
    ) as live:
        yield live


async def session_of(live: Live, caller: str) -> Conversation:
    agent = await live.core.agents.create(
        CreateAgent(name=f"dev of {caller}", provider=ProviderName.OPENAI, model="m")
    )
    return await live.core.conversations.open_session(agent.id, None, CALLERS[caller])


async def first_frame(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await socket.recv())


async def closed(socket: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code


@pytest.mark.parametrize("path", ["/ws/dashboard", "/ws/agents/7", "/ws/nowhere"])
@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong"])
async def test_a_socket_without_a_token_that_holds_is_closed_with_4001(live, path, query):
    async with connect(f"{live.ws}{path}{query}") as socket:
        assert await closed(socket) == 4001


@pytest.mark.parametrize("how", ["url", "authorization", "x-api-key"])
async def test_a_token_opens_a_socket_wherever_it_is_sent(live, how):
    token = token_of("viewer")
    headers = {
        "url": {},
        "authorization": bearer("viewer"),
        "x-api-key": {"x-api-key": token},
    }[how]
    query = f"?token={token}&after=0" if how == "url" else ""
    async with connect(f"{live.ws}/ws/dashboard{query}", additional_headers=headers) as socket:
        assert (await first_frame(socket))["type"] == "connection.established"
    async with connect(f"{live.ws}/ws/nowhere?token={token}") as socket:
        assert await closed(socket) == 4004


async def test_a_disabled_account_and_a_lesser_right_are_closed_with_4003(live, authenticator):
    authenticator.known["disabled"] = Forbidden("The account is disabled")
    for token in ("disabled", token_of("worker node"), token_of("limited admin")):
        async with connect(f"{live.ws}/ws/dashboard?token={token}") as socket:
            assert await closed(socket) == 4003


async def test_a_token_in_the_url_stands_in_no_log(live, caplog):
    caplog.set_level(logging.DEBUG)
    for token in (token_of("viewer"), "a-wrong-token"):
        async with connect(f"{live.ws}/ws/dashboard?token={token}") as socket:
            await socket.recv() if token != "a-wrong-token" else await closed(socket)
    origin = {"origin": "https://evil.example"}
    with pytest.raises(Exception, match="403"):
        await connect(f"{live.ws}/ws/dashboard?token=refused-token", additional_headers=origin)
    lines = [record.getMessage() for record in caplog.records if "uvicorn" in record.name]
    assert any("/ws/dashboard" in line for line in lines), "the server logs sockets"
    assert not [line for line in lines if "token" in line]


@pytest.mark.parametrize(
    ("then", "code"),
    [
        (None, 4001),
        (user(12, Role.VIEWER), 4001),
        (user(12, Role.OPERATOR, limited="mfa_setup_required"), 4001),
        (Forbidden("The account is disabled"), 4003),
        (Unavailable("The record cannot be asked"), 1013),
    ],
)
async def test_a_socket_ends_when_its_rights_do(live, authenticator, then, code):
    async with connect(f"{live.ws}/ws/dashboard?token={token_of('operator')}") as socket:
        await first_frame(socket)
        await socket.send('{"type": "ping"}')
        assert (await first_frame(socket))["type"] == "pong"
        authenticator.known[token_of("operator")] = then
        assert await closed(socket) == code
    assert not live.app.state.hub._subscriptions


async def test_a_socket_ends_when_its_address_is_turned_away(live):
    settings = live.core.settings.model_copy(update={"trusted_proxies": "127.0.0.1"})
    from_afar = {"x-forwarded-for": "203.0.113.5", **bearer("operator")}
    async with serving(live.core, settings, recheck_seconds=0.05) as behind_a_proxy:
        url = f"{behind_a_proxy.ws}/ws/dashboard"
        async with connect(url, additional_headers=from_afar) as socket:
            await first_frame(socket)
            rule = NewIpRule(cidr="203.0.113.0/24", action=IpAction.DENY)
            await live.core.security.replace_ip_rules([rule], force=True)
            async with asyncio.timeout(10):
                assert await closed(socket) == 4003


async def test_a_socket_that_keeps_its_rights_stays(live, authenticator):
    async with connect(f"{live.ws}/ws/dashboard?token={token_of('operator')}") as socket:
        await first_frame(socket)
        authenticator.asked.clear()
        while len(authenticator.asked) < 5:
            await socket.send('{"type": "ping"}')
            assert (await first_frame(socket))["type"] == "pong"


async def test_a_socket_ends_when_its_token_expires(patient, authenticator):
    token = jwt.encode({"sub": "12", "exp": time.time() + 1}, "k" * 32, "HS256")
    authenticator.known[token] = OPERATOR
    async with connect(f"{patient.ws}/ws/dashboard?token={token}") as socket:
        await first_frame(socket)
        del authenticator.known[token]
        assert await closed(socket) == 4001
    assert authenticator.asked == [token, token]


async def test_a_stream_of_events_ends_when_its_rights_do(live, authenticator):
    session = await session_of(live, "operator")
    url = f"{live.http}/conversations/{session.id}/events"
    async with event_source(url, **bearer("operator")) as source:
        authenticator.known[token_of("operator")] = None
        assert await source.rest() == []
    async with httpx.AsyncClient() as client:
        assert (await client.get(url, headers=bearer("operator"))).status_code == 401


async def test_a_session_is_told_to_its_owner_and_to_admins_alone(live):
    session = await session_of(live, "operator")
    open_to = {"operator": True, "admin": True, "gateway": True, "other operator": False}
    for caller, is_open in open_to.items():
        url = f"{live.ws}/ws/conversations/{session.id}?token={token_of(caller)}"
        async with connect(url) as socket:
            if is_open:
                assert (await first_frame(socket))["type"] == "connection.established"
            else:
                assert await closed(socket) == 4004
        async with httpx.AsyncClient() as client:
            url = f"{live.http}/conversations/{session.id}/events"
            async with client.stream("GET", url, headers=bearer(caller)) as response:
                assert response.status_code == (200 if is_open else 404)


@pytest.mark.parametrize("channel", ["dashboard", "agents/1"])
async def test_wide_channels_tell_of_no_session_of_others(live, channel):
    session = await session_of(live, "operator")
    sockets = {
        caller: await connect(f"{live.ws}/ws/{channel}?token={token_of(caller)}")
        for caller in ("operator", "admin", "other operator")
    }
    for socket in sockets.values():
        await first_frame(socket)
    await live.core.conversations.end(session.id, OPERATOR)
    shared = await live.core.conversations.create(
        CreateConversation(topic="t", agent_ids=[1], auto_run=False), OPERATOR
    )
    seen: dict[str, list[int]] = {}
    for caller, socket in sockets.items():
        ids: list[int] = []
        while shared.id not in ids:
            ids.append((await first_frame(socket))["data"]["conversation_id"])
        seen[caller] = ids
        await socket.close()
    both = [session.id, shared.id]
    assert seen == {"operator": both, "admin": both, "other operator": [shared.id]}
