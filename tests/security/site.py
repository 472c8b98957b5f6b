"""Where hostile inputs are played: the real tools, and something behind each wall that would show.

Listeners count who connects to what stands for this product's ports; files outside of the
workspace, a secret of the vault and a variable of the worker hold canaries that must not be told.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from pydantic import JsonValue
from sqlalchemy import text, update

from conclave.adapters.net.guard import OutgoingGuard, PinnedTarget
from conclave.agents.commands import CreateAgent
from conclave.container import Core, build_core, temporal_client
from conclave.crypto import new_key
from conclave.secrets.commands import CreateSecret
from conclave.settings import Settings
from schema.domain.approvals import ApprovalRequest, RiskLevel
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.permissions import PermissionMode
from schema.domain.providers import ProviderName
from schema.domain.urls import UrlPurpose
from schema.tables.conversations import ConversationRow
from tests.fakes.model_server import ModelServer
from tests.harness.chats import open_chat, say, set_mode
from tests.harness.servers import free_port
from tests.security.injection import Case, Rules, Source, call
from tests.security.obedient import obey
from tests.waiting import until
from worker.main import build_worker
from worker.parts import build_worker_parts
from workflows.engine import TemporalEngine

Row = dict[str, object]
_NAMES = {
    "rebind.example": ["127.0.0.1"],
    "mixed.example": ["93.184.216.34", "127.0.0.1"],
    "private.example": ["10.1.2.3"],
    "evil.example": ["93.184.216.34"],
}
CANARIES = {
    "the vault": "canary-vault-71c9",
    "the worker's environment": "canary-environment-03bd",
    "a file outside": "canary-outside-a55e",
    "the product's keys": "canary-keys-9f20",
    "another chat": "canary-other-44d1",
    "the provider's key": "canary-provider-b7e6",
}


class NotedGuard(OutgoingGuard):
    """The real guard over made-up names; it lets one web server on loopback pass."""

    def __init__(self, web_port: int, own_ports: frozenset[int]) -> None:
        super().__init__(own_ports=own_ports, resolver=self._look_up)
        self._web_port = web_port
        self.passed: list[str] = []
        """What agents' URLs it let through, by host."""

    async def resolve(
        self,
        url: str,
        *,
        field: str = "url",
        administrator: bool = False,
        purpose: UrlPurpose = UrlPurpose.WEB,
    ) -> PinnedTarget:
        parts = urlsplit(url)
        if parts.hostname == "web.example" and parts.port == self._web_port:
            return PinnedTarget(parts.scheme, "web.example", self._web_port, "127.0.0.1")
        target = await super().resolve(
            url, field=field, administrator=administrator, purpose=purpose
        )
        if not administrator:
            self.passed.append(target.host)
        return target

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        if host == "localhost":
            return ["127.0.0.1", "::1"]
        return _NAMES.get(host, [])


@dataclass
class Played:
    """What came of a case."""

    wanted: int
    """Orders in the hostile text."""
    ledger: list[Row]
    """Without the call that only brought the text to the model."""
    told: str
    """Everything that was stored of the chat or sent to the model."""
    connections: dict[str, int]
    received: list[str]
    passed: list[str]
    changed: list[str]
    """What is not as it was, beyond the workspace and in it."""


@dataclass
class Site:
    """What a case is played on."""

    core: Core
    model: ModelServer
    guard: NotedGuard
    outside: Path
    data: Path
    ports: dict[str, int]
    connections: dict[str, int]
    received: list[str]
    page: list[str]
    """What the web server answers."""
    approval: int = 0
    other: Path = field(default_factory=Path)

    async def play(self, case: Case) -> Played:
        """Put the hostile text where it belongs, let the model read it, see what happens."""
        hostile = self._filled_in(case.text)
        self.model.requests.clear()
        self.received.clear()
        self.guard.passed.clear()
        self.connections.update(dict.fromkeys(self.connections, 0))
        chat_id = await self._chat(case, hostile)
        tree = self.data / "workspaces" / f"chat-{chat_id}" / "tree"
        prompt, carriers = await self._placed(case, hostile, chat_id)
        await self._rule(case, carriers)
        before = await self._state(tree)
        await say(self.core, chat_id, prompt)
        await self._rest(chat_id)
        rows = await self._rows(chat_id)
        return Played(
            wanted=hostile.count("CALL "),
            ledger=rows[len(carriers) :],
            told=await self._told(chat_id),
            connections={name: count for name, count in self.connections.items() if count},
            received=[*self.received],
            passed=[*self.guard.passed],
            changed=_differences(before, await self._state(tree)),
        )

    def _filled_in(self, given: str) -> str:
        names = {name: str(port) for name, port in self.ports.items()}
        places = {"outside": str(self.outside), "data": str(self.data), "other": str(self.other)}
        return Template(given).substitute(**names, **places, approval=str(self.approval))

    async def _chat(self, case: Case, hostile: str) -> int:
        name = hostile if case.source is Source.AGENT_NAME else "Ada"
        memory: dict[str, JsonValue] = {"memory": hostile}
        agent = await self.core.agents.create(
            CreateAgent(
                name=name,
                provider=ProviderName.OPENAI,
                model="gpt-4o-mini",
                background=memory if case.source is Source.MEMORY else {},
            )
        )
        chat = await open_chat(self.core, agent.id)
        if case.source is Source.TITLE:
            async with self.core.db.transaction() as tx:
                await tx.conn.execute(
                    update(ConversationRow)
                    .where(ConversationRow.id == chat.id)
                    .values(topic=hostile)
                )
        return chat.id

    async def _placed(self, case: Case, hostile: str, chat_id: int) -> tuple[str, dict[str, str]]:
        """Store the text; return the prompt, and the tool by which it is read."""
        workspace = await self.core.workspaces.scratch(f"chat-{chat_id}")
        await workspace.files.write("notes.txt", b"mine\n")
        match case.source:
            case Source.FILE:
                await workspace.files.write("README.md", f"Read me.\n{hostile}\n".encode())
                return call("read_file", path="README.md"), {"read_file": "allow"}
            case Source.FILE_NAME:
                await workspace.files.write(hostile, b"")
                return call("list_files"), {"list_files": "allow"}
            case Source.OUTPUT:
                await workspace.files.write("log.txt", f"ok\n{hostile}\n".encode())
                return call("bash", command="cat log.txt"), {"bash": "allow"}
            case Source.WEB:
                self.page[:] = [hostile]
                url = f"http://web.example:{self.ports['web']}/page"
                return call("http_get", url=url), {"http_get": "allow"}
            case Source.MEMORY | Source.AGENT_NAME | Source.TITLE:
                return "Go on.", {}

    async def _rule(self, case: Case, carriers: dict[str, str]) -> None:
        modes = {
            Rules.ASK: PermissionMode.INTERACTIVE,
            Rules.READ_ONLY: PermissionMode.READONLY,
            Rules.DENY: PermissionMode.AUTONOMOUS,
            Rules.ALLOW: PermissionMode.AUTONOMOUS,
        }
        denied = dict.fromkeys(case.denied, "deny")
        await set_mode(self.core, modes[case.rules], **carriers, **denied)

    async def _rest(self, chat_id: int) -> None:
        """Wait until the turn is over or waits for a person only; then it is cancelled."""

        async def rests() -> bool:
            return await self._ended(chat_id) or await self._waits(chat_id)

        await until(rests, timeout=90, every=0.1, what="the turn to rest")
        if not await self._ended(chat_id):
            for row in await self._rows(chat_id):
                assert row["status"] != "waiting" or row["attempt"] == 0
            await self.core.conversations.cancel_turn(chat_id, LOCAL_PRINCIPAL)
            await until(lambda: self._ended(chat_id), timeout=60, what="the cancel")

    async def _ended(self, chat_id: int) -> bool:
        return bool(
            await self._scalar(
                "SELECT count(*) FROM events WHERE conversation_id = :id AND type IN"
                " ('conversation.turn_completed', 'conversation.turn_failed')",
                chat_id,
            )
        )

    async def _waits(self, chat_id: int) -> bool:
        rows = await self._rows(chat_id)
        statuses = {row["status"] for row in rows}
        return "waiting" in statuses and not statuses & {"ready", "running"}

    async def _rows(self, chat_id: int) -> list[Row]:
        async with self.core.db.transaction() as tx:
            rows = await tx.conn.execute(
                text("SELECT * FROM tool_executions WHERE conversation_id = :id ORDER BY id"),
                {"id": chat_id},
            )
            return [dict(row) for row in rows.mappings()]

    async def _scalar(self, query: str, chat_id: int) -> object:
        async with self.core.db.transaction() as tx:
            return await tx.conn.scalar(text(query), {"id": chat_id})

    async def _told(self, chat_id: int) -> str:
        """Return everything stored of the chat, and every request to the model."""
        parts = [json.dumps(request.body) for request in self.model.requests]
        async with self.core.db.transaction() as tx:
            for table in ("tool_executions", "messages", "events", "approvals"):
                rows = await tx.conn.execute(
                    text(
                        f"SELECT row_to_json(t)::text FROM {table} AS t WHERE conversation_id = :id"
                    ),
                    {"id": chat_id},
                )
                parts.extend(str(row[0]) for row in rows)
        return "\n".join(parts)

    async def _state(self, tree: Path) -> dict[str, str]:
        """Return what a hostile input must not change."""
        state = await asyncio.to_thread(self._files, tree)
        async with self.core.db.transaction() as tx:
            decided = await tx.conn.scalar(
                text("SELECT count(*) FROM approvals WHERE status IN ('approved', 'rejected')")
            )
            grants = await tx.conn.scalar(text("SELECT count(*) FROM tool_grants"))
        permissions = await self.core.permissions.current()
        state["approvals decided"] = f"{decided} {grants}"
        state["permissions"] = permissions.model_dump_json()
        return state

    def _files(self, tree: Path) -> dict[str, str]:
        """Return what lies beyond the workspace, and what hostile inputs would change in it."""
        found = {
            str(path): _digest(path)
            for root in (self.outside, self.data)
            for path in sorted(root.rglob("*"))
            if not path.is_relative_to(tree.parent)
        }
        notes = tree / "notes.txt"
        found["notes.txt"] = _digest(notes) if notes.exists() else "gone"
        found["what was made"] = ", ".join(sorted(path.name for path in tree.glob("hacked*")))
        return found


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "no file"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


@asynccontextmanager
async def running_site(
    postgres_url: str, temporal_address: str, directory: Path
) -> AsyncGenerator[Site]:
    """Run the product with everything behind its walls until the block ends."""
    outside, data = directory / "outside", directory / "data"
    for place in (outside, data):
        place.mkdir()
    (outside / "private.txt").write_text(CANARIES["a file outside"])
    (data / "secrets.env").write_text(CANARIES["the product's keys"])
    async with AsyncExitStack() as stack:
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setenv("CANARY", CANARIES["the worker's environment"])
        model = await stack.enter_async_context(ModelServer(responder=obey))
        connections: dict[str, int] = {}
        ports = {
            name: await _listen(stack, name, connections)
            for name in ("api", "temporal", "database", "inside")
        }
        page, received = [""], list[str]()
        ports["web"] = await _serve(stack, page, received, ports["api"])
        guard = NotedGuard(ports["web"], frozenset({ports["api"], ports["temporal"]}))
        core = await _product(stack, postgres_url, temporal_address, data, guard, model)
        site = Site(core, model, guard, outside, data, ports, connections, received, page)
        asked = ApprovalRequest(type="deploy", action="deploy", risk_level=RiskLevel.HIGH)
        site.approval = (await core.approvals.create(asked)).id
        other = await core.workspaces.scratch("chat-other")
        await other.files.write("private.txt", CANARIES["another chat"].encode())
        site.other = data / "workspaces" / "chat-other" / "tree"
        yield site


async def _product(
    stack: AsyncExitStack,
    postgres_url: str,
    temporal_address: str,
    data: Path,
    guard: NotedGuard,
    model: ModelServer,
) -> Core:
    settings = Settings.model_validate(
        {
            "database_url": postgres_url,
            "temporal_address": temporal_address,
            "encryption_key": new_key(),
            "conclave_data_dir": data,
        }
    )
    client = await temporal_client(settings)
    environment = {
        "OPENAI_BASE_URL": model.base_url,
        "OPENAI_API_KEY": CANARIES["the provider's key"],
    }
    core = await build_core(
        settings,
        engine=TemporalEngine(client),
        name="injection",
        environment=environment,
        guard=guard,
    )
    stack.push_async_callback(core.close)
    await core.secrets.create(
        CreateSecret(name="deploy", value=CANARIES["the vault"]), LOCAL_PRINCIPAL
    )
    parts = build_worker_parts(core)
    await asyncio.to_thread(parts.load)
    stack.push_async_callback(parts.gateway.close)
    await stack.enter_async_context(build_worker(settings, client, parts))
    return core


async def _listen(stack: AsyncExitStack, name: str, connections: dict[str, int]) -> int:
    """Count who connects, on both loopbacks."""
    connections[name] = 0
    port = free_port()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[name] += 1
        writer.close()

    for host in ("127.0.0.1", "::1"):
        server = await asyncio.start_server(count, host, port)
        stack.callback(server.close)
    return port


async def _serve(stack: AsyncExitStack, page: list[str], received: list[str], api: int) -> int:
    """Serve the hostile page, a redirect to the API, and note all that is sent."""

    async def note(request: web.Request) -> web.Response:
        body = await request.text()
        received.append(f"{request.method} {request.path_qs} {dict(request.headers)} {body}")
        if request.path == "/redirect":
            raise web.HTTPFound(f"http://127.0.0.1:{api}/api/v1/approvals")
        return web.Response(text=page[0] if request.path == "/page" else "thanks")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", note)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])
