"""A server of the gateway dialect as gateway.md has it, told by tests what happens when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import WSMsgType, web

from conclave.terminal.server import Server

TOKEN = "a-token-nobody-may-see"
CHAT = "6e1b1b5e-0000-4000-8000-000000000001"
USAGE = {"input_tokens": 1200, "output_tokens": 34, "cost_usd": 0.0125}
Script = Callable[["ChatServer", str], Awaitable[None]]


def call(call_id: str, name: str = "write_file", **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "name": name, "arguments": arguments}


def approval(approval_id: int, **fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "id": approval_id,
        "type": "tool_call",
        "action": "execute_tool:bash",
        "description": None,
        "risk_level": "high",
        "status": "pending",
        "task_id": None,
        "agent_id": 3,
        "agent_name": "ada",
        "details": {"tool_name": "bash", "tool_args": {"command": "ls"}},
        "requested_by": None,
        "requested_by_type": "agent",
        "requested_at": (now - timedelta(minutes=5)).isoformat(),
        "expires_at": (now + timedelta(hours=23, minutes=30)).isoformat(),
        "decided_by": None,
        "decided_at": None,
        "decision_note": None,
        "rejection_reason": None,
        **fields,
    }


@dataclass
class ChatServer:
    """One chat and its sockets. `script` answers a message; it runs once for each message id."""

    url: str = ""
    script: Script | None = None
    state: str = "idle"
    pending: list[dict[str, Any]] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    """Every message of every socket."""
    connections: list[str | None] = field(default_factory=list)
    """What each connection asked to go on from."""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    """Of (method, path): status and body."""
    approvals: dict[int, dict[str, Any]] = field(default_factory=dict)
    refuses_connections: int = 0
    _sockets: dict[web.WebSocketResponse, web.Request] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)
    _scripts: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def server(self) -> Server:
        return Server(url=self.url, token=TOKEN)

    @property
    def is_watched(self) -> bool:
        return bool(self._sockets)

    def verdicts(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for message in self.said:
            if message["type"] == "tool_approval":
                found |= message["verdicts"]
        return found

    async def tell(self, type_: str, data: dict[str, Any], *, hidden: bool = False) -> None:
        """Store an event; `hidden` keeps it from the sockets there are, not from a replay."""
        seq = len(self.events) + 1
        frame = {"type": type_, "data": data, "timestamp": "2026-01-01T00:00:00Z", "seq": seq}
        self.events.append(frame)
        if not hidden:
            await self._send(frame)

    async def speak(self, *pieces: str) -> None:
        """Send text that is never replayed."""
        for piece in pieces:
            data = {"text": piece}
            seq = len(self.events)
            await self._send(
                {"type": "agent.text_delta", "data": data, "timestamp": "", "seq": seq}
            )

    async def complain(self, **data: Any) -> None:
        await self._send({"type": "agent.error", "data": data, "timestamp": "", "seq": 0})

    async def end_turn(self, text: str = "", stop_reason: str = "end_turn") -> None:
        """Keep what was said as the record does, and end the turn."""
        if text:
            self.turns.append({"role": "assistant", "content": text, "tool_calls": []})
            await self.tell("agent.text", {"text": text}, hidden=True)
        self.state = "idle"
        data = {"stop_reason": stop_reason, "model": "demo-1", "usage": USAGE}
        await self.tell("agent.turn_complete", data)

    async def ask(self, *calls: dict[str, Any]) -> None:
        self.state, self.pending = "waiting_approval", [*self.pending, *calls]
        await self.tell("agent.tool_request", {"tool_calls": list(calls)})

    def cut(self) -> None:
        """Break every connection, without a word."""
        for request in self._sockets.values():
            if request.transport is not None:  # the client may have gone by itself
                request.transport.abort()
        self._sockets.clear()

    async def close(self, code: int) -> None:
        for socket in list(self._sockets):
            await socket.close(code=code)

    async def stop(self) -> None:
        for task in self._scripts:
            task.cancel()
        self.cut()

    async def _send(self, frame: dict[str, Any]) -> None:
        for socket in list(self._sockets):
            await socket.send_str(json.dumps(frame))

    async def on_socket(self, request: web.Request) -> web.StreamResponse:
        if self.refuses_connections:
            self.refuses_connections -= 1
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if request.query.get("token") != TOKEN:
            await socket.close(code=4001)
            return socket
        if request.match_info["chat_id"] != CHAT:
            await socket.close(code=4004)
            return socket
        after = request.query.get("after")
        self.connections.append(after)
        ready = {"chat_id": CHAT, "state": self.state, "pending_tool_calls": self.pending}
        place = len(self.events) if after is None else int(after)
        frame = {"type": "session.ready", "data": ready, "timestamp": "", "seq": place}
        await socket.send_str(json.dumps(frame))
        for event in self.events[place:]:
            await socket.send_str(json.dumps(event))
        self._sockets[socket] = request
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self._hear(json.loads(message.data))
        self._sockets.pop(socket, None)
        return socket

    def _hear(self, message: dict[str, Any]) -> None:
        self.said.append(message)
        if message["type"] == "tool_approval":
            self.pending = [one for one in self.pending if one["id"] not in message["verdicts"]]
        if message["type"] != "user_message" or message["id"] in self._ids:
            return
        self._ids.add(message["id"])
        self.state = "running"
        self.turns.append({"role": "user", "content": message["content"], "tool_calls": []})
        if self.script is not None:
            task = asyncio.create_task(self._run(self.script, message["content"]))
            self._scripts.add(task)

    async def _run(self, script: Script, content: str) -> None:
        await script(self, content)

    async def on_request(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"detail": "Not authenticated"}, status=401)
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, body))
        key = (request.method, request.path)
        if key in self.answers:
            status, answer = self.answers[key]
            return web.json_response(answer, status=status)
        if key == ("POST", "/api/chats"):
            return web.json_response({"chat_id": CHAT, "title": "New", "agent_id": 1}, status=201)
        if key == ("GET", f"/api/chats/{CHAT}"):
            return web.json_response({"chat_id": CHAT, "turns": self.turns})
        if request.path.startswith("/api/v1/approvals"):
            return self._on_approvals(request, body)
        return web.json_response({"detail": f"No {request.path} here"}, status=404)

    def _on_vote(self, found: dict[str, Any], body: dict[str, Any]) -> web.Response:
        """Take a yes of several; each is another person's, unless `has_voted` says otherwise."""
        if found.get("has_voted"):
            return web.json_response({"detail": "one vote a person"}, status=409)
        if body.get("arguments") != found["arguments"]:
            return web.json_response({"detail": "they were edited"}, status=409)
        found["approvals_count"] += 1
        if found["approvals_count"] >= found["required_approvals"]:
            found["status"] = "approved"
        return web.json_response(found)

    def _on_approvals(self, request: web.Request, body: Any) -> web.Response:
        parts = request.path.split("/")[4:]
        if not parts:
            pending = [one for one in self.approvals.values() if one["status"] == "pending"]
            offset, limit = int(request.query["offset"]), int(request.query["limit"])
            return web.json_response(pending[offset : offset + limit])
        found = self.approvals.get(int(parts[0]))
        if found is None:
            return web.json_response({"detail": f"Approval {parts[0]} not found"}, status=404)
        if request.method == "POST":
            if found["status"] != "pending":
                return web.json_response({"detail": "decided already"}, status=409)
            if parts[1] == "approve" and "required_approvals" in found:
                return self._on_vote(found, body or {})
            found["status"] = "approved" if parts[1] == "approve" else "rejected"
            found["rejection_reason"] = (body or {}).get("reason")
            found["decision_note"] = (body or {}).get("note")
        return web.json_response(found)


@asynccontextmanager
async def running_chat_server(
    script: Script | None = None, approvals: Sequence[dict[str, Any]] = ()
) -> AsyncGenerator[ChatServer]:
    """Serve on a port of its own."""
    fake = ChatServer(script=script, approvals={one["id"]: one for one in approvals})
    app = web.Application()
    app.router.add_get("/ws/{chat_id}", fake.on_socket)
    app.router.add_route("*", "/{path:.*}", fake.on_request)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await fake.stop()
        await runner.cleanup()
