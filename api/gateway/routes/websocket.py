"""WS /ws/{chat_id}: a chat as it happens, and what a person says to it.

The turn is the workflow's: a socket only tells of it, and may come and go.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterable
from contextlib import aclosing
from typing import Annotated

from fastapi import Query, WebSocket
from pydantic import JsonValue

from api.deps import CoreDep, PrincipalDep
from api.gateway.client_messages import (
    Cancel,
    ClientMessage,
    InvalidEvent,
    Judged,
    Panic,
    Ping,
    ToolApproval,
    UserMessage,
    VerdictOnAll,
    parse,
)
from api.gateway.frames import Data, Frame, Narrator
from api.input import CheckedRouter
from api.sockets import serve_socket
from api.stream import HubDep
from api.subscriptions import Channel, Subscription
from conclave.approvals.commands import Decide
from conclave.approvals.errors import ApprovalNotPending
from conclave.container import Core
from conclave.errors import ConclaveError, Forbidden, NotFound, Unavailable
from schema.domain.identity import Principal, Role

_LAST_SEQ = 2**63 - 1

router = CheckedRouter()


class _ChatSocket:
    """One client of a chat."""

    def __init__(
        self, websocket: WebSocket, core: Core, principal: Principal, chat_id: uuid.UUID
    ) -> None:
        self._websocket = websocket
        self._core = core
        self._principal = principal
        self._chat_id = chat_id
        self._sending = asyncio.Lock()
        self._narrator = Narrator(chat_id, seq=0, live_after=0)

    async def channel(self) -> Channel:
        """Return what the client watches. Raises `NotFound` for a chat that it does not have."""
        chat = await self._core.chats.get(self._chat_id, self._principal)
        return Channel(
            f"chats/{self._chat_id}", conversation_id=chat.conversation_id, with_decisions=True
        )

    async def greet(self, subscription: Subscription) -> None:
        """Say where the chat stands; what was missed follows."""
        self._narrator = Narrator(
            self._chat_id, seq=subscription.seq, live_after=subscription.live_after
        )
        standing = await self._core.chats.standing(self._chat_id, self._principal)
        await self._send([self._narrator.ready(standing)])

    async def tell(self, subscription: Subscription) -> None:
        """Pass on what happens until the subscription ends."""
        async with aclosing(subscription.items()) as items:
            async for item in items:
                await self._send(self._narrator.frames(item))

    async def answer(self) -> None:
        """Do what the client asks for, one message after the other, until it leaves."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: object = message.get("text")
            try:
                asked = parse(text if isinstance(text, str) else "")
                await self._do(asked)
            except InvalidEvent as error:
                await self._complain("invalid_event", str(error))
            except ConclaveError as error:
                await self._complain(error.code, error.message)

    async def _do(self, asked: ClientMessage) -> None:
        if isinstance(asked, Ping):
            await self._send([self._narrator.say("pong")])
            return
        await self._require_write()
        match asked:
            case UserMessage():
                self._narrator.expect(asked.content, stream=asked.stream)
                await self._core.chats.send(self._chat_id, asked.content, asked.id, self._principal)
            case Cancel() | Panic():
                stopped = await self._core.chats.cancel(
                    self._chat_id, self._principal, drop_queued=isinstance(asked, Panic)
                )
                await self._send([self._narrator.say("session.cancelled", {"cancelled": stopped})])
            case ToolApproval():
                await self._decide(asked.judged())
            case VerdictOnAll():
                await self._decide_all(Judged(verdict="allow" if asked.approved else "deny"))

    async def _require_write(self) -> None:
        """Raise what a write over REST would be refused with."""
        if not self._principal.has(Role.OPERATOR):
            raise Forbidden("Needs the role operator, or a key with that right")
        if not self._principal.is_admin and await self._core.configuration.maintenance():
            raise Unavailable("Maintenance is under way: only administrators may write")

    async def _decide_all(self, judged: Judged) -> None:
        standing = await self._core.chats.standing(self._chat_id, self._principal)
        self._narrator.note(standing.pending)
        if standing.pending:
            await self._decide({call.tool_use_id: judged for call in standing.pending})
        else:
            await self._send([self._narrator.say("agent.tool_decided", {"status": "not_pending"})])

    async def _decide(self, verdicts: dict[str, Judged]) -> None:
        """Decide each; one that was decided already is told as it was, and the others go on."""
        standing = await self._core.chats.standing(self._chat_id, self._principal)
        self._narrator.note(standing.pending)
        for tool_use_id, judged in verdicts.items():
            approval_id = self._narrator.approval_of(tool_use_id)
            try:
                if approval_id is None:
                    raise NotFound(f"No tool call {tool_use_id[:64]!r} waits for a verdict")
                await self._core.approvals.decide(approval_id, _command(judged), self._principal)
            except ApprovalNotPending as error:
                status = error.details.get("status")
                await self._send([self._narrator.decided(tool_use_id, status)])
            except ConclaveError as error:
                await self._complain(error.code, error.message, tool_use_id=tool_use_id)

    async def _complain(self, code: str, message: str, **more: JsonValue) -> None:
        data: Data = {"code": code, "message": message, **more}
        await self._send([self._narrator.say("agent.error", data)])

    async def _send(self, frames: Iterable[Frame]) -> None:
        async with self._sending:
            for frame in frames:
                await self._websocket.send_text(json.dumps(frame, ensure_ascii=False))


def _command(judged: Judged) -> Decide:
    """Return a verdict in the core's words."""
    return Decide(
        approve=judged.verdict != "deny",
        always=judged.verdict == "allow_always",
        arguments=judged.arguments,
        reason=judged.reason if judged.verdict == "deny" else None,
        note=judged.reason if judged.verdict != "deny" else None,
    )


@router.websocket("/ws/{chat_id:uuid}")
async def chat_socket(
    websocket: WebSocket,
    chat_id: uuid.UUID,
    core: CoreDep,
    hub: HubDep,
    principal: PrincipalDep,
    after: Annotated[int | None, Query(ge=0, le=_LAST_SEQ)] = None,
) -> None:
    """A chat; `after` replays what came after that seq."""
    socket = _ChatSocket(websocket, core, principal, chat_id)
    await serve_socket(websocket, hub, principal, socket, socket.channel, after)
