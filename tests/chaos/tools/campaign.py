"""A chaos run over tools: chats that send lines, workers killed in mid-call, then all is counted.

PostgreSQL, Temporal and the workers are processes of their own; the clients and the model, which
survive every kill, are this one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue
from sqlalchemy import text

from conclave.agents.commands import CreateAgent
from conclave.container import Core, build_core, temporal_client
from conclave.conversations.commands import Advance
from conclave.crypto import new_key
from conclave.runtime import migrations
from conclave.settings import Settings
from schema.domain.events import EventType, conversation_stream
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.permissions import PermissionMode
from schema.domain.providers import ProviderName
from tests.chaos.tools.toolbox import Outside
from tests.chaos.tools.verify import Row, Snapshot, told_by, violations
from tests.chaos.tools.workers import Workers
from tests.fakes.model_server import Behaviour, ModelServer, Received, Reply
from tests.harness.chats import open_chat, set_mode
from tests.harness.servers import running_postgres, running_temporal
from tests.waiting import until
from workflows.engine import TemporalEngine

_PATIENCE_SECONDS = 600.0
"""For a turn, and for what a kill cut. A workflow task that is cut costs 10 s, and Temporal waits
longer after each one cut in a row: on a busy machine kills without mercy starve a chat."""
_HURRIED_SHARE = 0.3
"""How many kills are followed by the next one before every chat has gone on."""
_WORK_SECONDS = 120.0
_TRIES = 3
"""How many times as many kills as asked for are tried before the run is given up."""


@dataclass(frozen=True)
class Plan:
    """`kills` is how many must count, with a `once` call in flight in the process killed."""

    kills: int
    seed: int
    chats: int = 12
    workers: int = 3
    longest_pause: float = 1.0
    """Seconds between two kills, at most, once calls are in flight again."""


@dataclass(frozen=True)
class Kill:
    """One kill of a worker. The calls are those it had entered and never left."""

    sends: int
    looks: int

    @property
    def counts(self) -> bool:
        """Whether a call that must not be repeated was cut."""
        return self.sends > 0


@dataclass
class Outcome:
    """What happened, and what is broken: nothing should be."""

    plan: Plan
    kills: list[Kill]
    seen: Snapshot
    broken: list[str]
    seconds: float


@dataclass
class _Field:
    """What a run works with."""

    core: Core
    model: ModelServer
    outside: Outside
    workers: Workers
    chats: list[int]
    asked: dict[int, int] = field(default_factory=dict[int, int])
    killed: set[int] = field(default_factory=set[int])
    finishing: bool = False


async def run(plan: Plan, root: Path, tell: Callable[[str], None]) -> Outcome:
    """Kill until the number is reached, let every turn end, and check it.

    `root` must be passable by PostgreSQL's user, with a short path.
    """
    began = time.monotonic()
    async with _started(plan, root) as scene:
        tell(f"up after {time.monotonic() - began:.1f} s; seed {plan.seed}")
        async with asyncio.TaskGroup() as talking:
            for chat in scene.chats:
                talking.create_task(_talk(scene, chat))
            kills = await _kill(plan, scene, tell)
            scene.finishing = True
        seen = await _snapshot(scene)
    return Outcome(plan, kills, seen, violations(seen), time.monotonic() - began)


async def _kill(plan: Plan, scene: _Field, tell: Callable[[str], None]) -> list[Kill]:
    dice = random.Random(plan.seed)
    done: list[Kill] = []
    for _ in range(plan.kills * _TRIES):
        await until(lambda: _busiest(scene), timeout=_WORK_SECONDS, what="a call in flight")
        moment = time.monotonic() + dice.uniform(0, plan.longest_pause)
        await until(lambda moment=moment: time.monotonic() >= moment, what="the moment")
        victim = _busiest(scene) or dice.choice(scene.workers.pids())
        scene.killed.add(victim)
        await asyncio.to_thread(scene.workers.kill, victim)
        cut = scene.outside.in_flight().get(victim, {})
        done.append(Kill(sends=cut.get("send", 0), looks=cut.get("look", 0)))
        if dice.random() >= _HURRIED_SHARE:
            at = datetime.now(UTC)
            await until(
                lambda moment=at: _all_went_on(scene, moment),
                timeout=_PATIENCE_SECONDS,
                every=0.2,
                what=f"the chats to go on without {victim}",
            )
        counted = sum(kill.counts for kill in done)
        if counted % 10 == 0 and done[-1].counts:
            tell(f"{counted} kills of {len(done)} count")
        if counted >= plan.kills:
            return done
    raise AssertionError(f"too few kills count: {sum(kill.counts for kill in done)} of {len(done)}")


def _busiest(scene: _Field) -> int | None:
    """Return the worker with the most calls in flight that must not be repeated, if any has."""
    inside = scene.outside.in_flight()
    sends = {pid: inside[pid]["send"] for pid in scene.workers.pids() if pid in inside}
    busiest = max(sends, key=lambda pid: sends[pid], default=None)
    return busiest if busiest is not None and sends[busiest] else None


async def _all_went_on(scene: _Field, moment: datetime) -> bool:
    """Whether every chat has had an answer, of the model or of a tool, since a moment."""
    async with scene.core.db.transaction() as tx:
        went_on = await tx.conn.scalars(
            text(
                "SELECT conversation_id FROM tool_executions WHERE ended_at > :moment"
                " UNION SELECT conversation_id FROM model_calls"
                " WHERE ended_at > :moment AND status = 'committed'"
            ),
            {"moment": moment},
        )
        return set(went_on) >= set(scene.chats)


async def _talk(scene: _Field, chat: int) -> None:
    """Ask for turn after turn, each when the one before is over."""
    while not scene.finishing:
        scene.asked[chat] = scene.asked.get(chat, 0) + 1
        command = Advance(prompt=f"turn {scene.asked[chat]}")
        await scene.core.conversations.advance(chat, command, LOCAL_PRINCIPAL, wait=False)
        await until(
            lambda: _has_ended(scene, chat),
            timeout=_PATIENCE_SECONDS,
            every=0.2,
            what=f"turn {scene.asked[chat]} of conversation {chat}",
        )


async def _has_ended(scene: _Field, chat: int) -> bool:
    return len(await _ends(scene.core, chat)) >= scene.asked[chat]


async def _ends(core: Core, chat: int) -> list[str]:
    async with core.db.transaction() as tx:
        rows = await tx.conn.execute(
            text(
                "SELECT type, data->>'stop_reason', data::text FROM events WHERE stream = :stream"
                " AND type IN (:completed, :failed) ORDER BY seq"
            ),
            {
                "stream": conversation_stream(chat),
                "completed": EventType.TURN_COMPLETED,
                "failed": EventType.TURN_FAILED,
            },
        )
        return [
            reason if kind == EventType.TURN_COMPLETED else f"{kind} {data}"
            for kind, reason, data in rows
        ]


async def _snapshot(scene: _Field) -> Snapshot:
    async with scene.core.db.transaction() as tx:
        ledger = await tx.conn.execute(
            text("SELECT *, arguments->>'text' AS text FROM tool_executions ORDER BY id")
        )
        owed = await tx.conn.scalar(
            text(
                "SELECT (SELECT count(*) FROM outbox)"
                " + (SELECT count(*) FROM inbox WHERE status = 'pending')"
            )
        )
        rows: list[Row] = [dict(row) for row in ledger.mappings()]
    return Snapshot(
        sent=scene.outside.sent(),
        journal=scene.outside.journal(),
        ledger=rows,
        told=told_by([received.body for received in scene.model.requests]),
        turns={chat: await _ends(scene.core, chat) for chat in scene.chats},
        asked=scene.asked,
        owed=owed or 0,
        killed=scene.killed,
    )


def _obedient(received: Received) -> Behaviour:
    """Ask for one to three lines to be sent, and something to be looked at, twice over; then talk.

    Every text is this request's own: a request that is made again asks for other lines.
    """
    rounds = 0
    for message in reversed(received.body["messages"]):
        if message["role"] == "user":
            break
        rounds += message["role"] == "assistant"
    if rounds >= 1 + received.n % 2:
        return Reply(text=f"All is sent. #{received.n}")
    calls: list[tuple[str, dict[str, JsonValue]]] = [
        ("send", {"text": f"{received.n}-{part}"}) for part in range(1 + received.n % 3)
    ]
    if received.n % 4 == 0:
        calls.append(("look", {"text": f"{received.n}-look"}))
    return Reply(tool_calls=calls)


@asynccontextmanager
async def _started(plan: Plan, root: Path) -> AsyncGenerator[_Field]:
    outside = Outside(root)
    async with (
        ModelServer(responder=_obedient) as model,
        running_postgres(root / "postgres") as postgres,
        running_temporal(root) as temporal,
    ):
        await asyncio.to_thread(migrations.upgrade, postgres.url())
        environment = {
            "DATABASE_URL": postgres.url(),
            "TEMPORAL_ADDRESS": temporal.address,
            "ENCRYPTION_KEY": new_key(),
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "sk-chaos-key-123456",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "CONCLAVE_DATA_DIR": str(root / "data"),
            "AUTH_MODE": "local",
        }
        settings = Settings.model_validate({key.lower(): environment[key] for key in environment})
        client = await temporal_client(settings)
        core = await build_core(
            settings,
            engine=TemporalEngine(client),
            name="chaos",
            environment=environment,
            toolbox=outside.toolbox(),
        )
        try:
            await set_mode(core, PermissionMode.AUTONOMOUS)
            agent = await core.agents.create(
                CreateAgent(name="Ada", provider=ProviderName.OPENAI, model="gpt-4o-mini")
            )
            chats = [(await open_chat(core, agent.id)).id for _ in range(plan.chats)]
            async with Workers(root, environment, plan.workers) as workers:
                yield _Field(core, model, outside, workers, chats)
        finally:
            await core.close()
