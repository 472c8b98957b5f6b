"""A chaos run over all kinds of work: one product, one load, kills and places to die, then all that
is stored is checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from temporalio.client import Client

from conclave.failpoints import Failpoint
from tests.chaos.kills import Kill, Kind, strike
from tests.chaos.model import Model, running_model
from tests.chaos.product import Product
from tests.chaos.work.budgets import BUDGETS
from tests.chaos.work.clients import Clients
from tests.chaos.work.load import Load
from tests.chaos.work.pipelines import PIPELINES
from tests.chaos.work.script import LINES
from tests.chaos.work.snapshot import Snapshot
from tests.chaos.work.tasks import TASKS
from tests.chaos.work.tokens import Tokens
from tests.chaos.work.triggers import TRIGGERS
from tests.waiting import until

MODEL_SECONDS = 1.0
PARTS = [TASKS, PIPELINES, TRIGGERS, BUDGETS]
PLACES = list(dict.fromkeys(place for part in PARTS for place in part.places))
"""Where the load comes by."""
_RESUME_SECONDS = 300.0
_END_SECONDS = 420.0
_HURRIED_SHARE = 0.25
_TRIES = 4
"""How many times as many kills as asked for are tried before a kind is given up."""


@dataclass(frozen=True)
class Plan:
    """`kills` is how many must count in all, of each kind about the same; `failpoints` how many
    processes must die at each place; `workflows` how many there must be in the end."""

    kills: int
    failpoints: int
    seed: int
    players: int = 12
    workers: int = 2
    workflows: int = 0

    @property
    def of_each_kind(self) -> int:
        """How many kills of each kind must count."""
        return -(-self.kills // len(Kind))


@dataclass
class Outcome:
    """What happened, and what is broken: nothing should be."""

    plan: Plan
    kills: list[Kill]
    struck: Counter[Failpoint]
    seen: Snapshot
    broken: list[str]
    retries: int
    seconds: float


@dataclass
class _Field:
    """What a run works with."""

    plan: Plan
    product: Product
    model: Model
    load: Load
    tokens: Tokens
    dice: random.Random
    tell: Callable[[str], None]


async def run(plan: Plan, root: Path, tell: Callable[[str], None]) -> Outcome:
    """Kill until every kind and place has its number, let everything end, and check it.

    `root` must be passable by PostgreSQL's user, with a short path.
    """
    began = time.monotonic()
    tokens = Tokens(root / "tokens")
    tokens.directory.mkdir()
    extra = {"CONCLAVE_FAILPOINTS": str(tokens.directory), "SANDBOX_UNSANDBOXED": "allow"}
    program = "tests.chaos.work.script"
    with running_model(root, delay=MODEL_SECONDS, program=program) as model:
        async with Product(
            root, model_url=model.base_url, workers=plan.workers, extra=extra
        ) as product:
            tell(f"up after {time.monotonic() - began:.1f} s; seed {plan.seed}")
            dice = random.Random(plan.seed)
            clients = Clients(product)
            load = Load(clients, plan.players, random.Random(plan.seed))
            scene = _Field(plan, product, model, load, tokens, dice, tell)
            await load.prepare()
            for part in PARTS:
                if part.prepare is not None:
                    await part.prepare(load)
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run([one for part in PARTS for one in part.scenarios]))
                kills = await _kill_all(scene)
                await _strike_all(scene)
                await _until_enough(scene)
                load.finish()
            tell("every client has its ends; waiting for the rest")
            await until(
                lambda: _all_is_over(scene), timeout=_END_SECONDS, every=0.5, what="the end"
            )
            seen = await _snapshot(scene)
            await clients.close()
    broken = [one for part in PARTS for check in part.checks for one in check(seen)]
    seconds = time.monotonic() - began
    return Outcome(plan, kills, tokens.counted(), seen, broken, clients.retries, seconds)


async def _kill_all(scene: _Field) -> list[Kill]:
    plan, done = scene.plan, list[Kill]()
    for _ in range(plan.of_each_kind * _TRIES):
        counted = Counter(kill.kind for kill in done if kill.counts)
        missing = [kind for kind in Kind if counted[kind] < plan.of_each_kind]
        for kind in scene.dice.sample(missing, len(missing)):
            done.append(await _kill(scene, kind))
        if not missing:
            return done
    counted = Counter(kill.kind for kill in done if kill.counts)
    assert all(counted[kind] >= plan.of_each_kind for kind in Kind), f"too few count: {counted}"
    return done


async def _kill(scene: _Field, kind: Kind) -> Kill:
    """Kill once, at a random moment with work in flight."""
    await until(lambda: _works(scene), timeout=_RESUME_SECONDS, every=0.05, what="work")
    await asyncio.sleep(scene.dice.uniform(0, MODEL_SECONDS))
    await until(lambda: _works(scene), timeout=_RESUME_SECONDS, every=0.02, what="work")
    if kind is Kind.API:
        await until(
            lambda: scene.load.open_requests, timeout=_RESUME_SECONDS, every=0.002, what="requests"
        )
    hurried = scene.dice.random() < _HURRIED_SHARE
    kill = await strike(kind, scene.product, scene.model, scene.load, scene.dice, hurried=hurried)
    scene.tell(
        f"killed {kind.value}: {kill.in_flight} calls in flight, {kill.requests} requests open"
        f"{'' if kill.counts else ' (does not count)'}, ready after {kill.ready_after:.1f} s"
    )
    if not hurried:
        await until(
            lambda: _is_settled(scene, kill.at),
            timeout=_RESUME_SECONDS,
            every=0.2,
            what=f"the calls that were in flight with {kind.value}",
        )
    return kill


def _works(scene: _Field) -> bool:
    """Whether some worker that lives waits for the model."""
    pids = scene.product.pids()
    return bool(scene.model.in_flight([pids[name] for name in scene.product.workers]))


async def _is_settled(scene: _Field, at: float) -> bool:
    """Whether no model call of before this moment is open any more."""
    query = "SELECT 1 FROM model_calls WHERE status = 'reserved' AND created_at < to_timestamp(%s)"
    try:
        return not await scene.product.rows(query, at)
    except psycopg.OperationalError:
        return False


async def _strike_all(scene: _Field) -> None:
    """Let processes die at every place, a token of each at a time, until each has its number."""
    while True:
        counted = scene.tokens.counted()
        missing = [place for place in PLACES if counted[place] < scene.plan.failpoints]
        if not missing:
            return
        began = time.monotonic()
        for place in scene.dice.sample(missing, len(missing)):
            scene.tokens.give(place)
        await until(
            lambda: scene.tokens.are_taken,
            timeout=_RESUME_SECONDS,
            every=0.1,
            what="somebody to come by",
        )
        await until(
            lambda: _all_live(scene), timeout=_RESUME_SECONDS, every=0.1, what="everything ready"
        )
        scene.tell(
            f"{len(missing)} died at their places, ready after {time.monotonic() - began:.1f} s"
        )


def _all_live(scene: _Field) -> bool:
    """Whether the supervisor's word is of processes that live and were not struck."""
    if scene.product.up.ready() is None:
        return False
    struck = {line["pid"] for line in scene.tokens.struck()}
    pids = set(scene.product.pids().values())
    return not pids & struck and all(psutil.pid_exists(pid) for pid in pids)


async def _until_enough(scene: _Field) -> None:
    async def enough() -> bool:
        try:
            [row] = await scene.product.rows(
                "SELECT (SELECT coalesce(sum(workflow_run), 0) FROM tasks)"
                " + (SELECT count(*) FROM approvals) AS number"
            )
        except psycopg.OperationalError:
            return False
        return row["number"] >= scene.plan.workflows

    await until(enough, timeout=3600, every=1.0, what=f"{scene.plan.workflows} workflows")


async def _all_is_over(scene: _Field) -> bool:
    await scene.load.decide_all()
    await scene.load.wake_agents()
    left = " UNION ALL ".join(["SELECT id FROM outbox", *(part.left for part in PARTS)])
    return not await scene.product.rows(left)


async def _snapshot(scene: _Field) -> Snapshot:
    """Read everything there is."""
    rows, model = scene.product.rows, scene.model
    runs = await _settled_runs(scene.product, [name for part in PARTS for name in part.workflows])
    model.look()
    agents = [
        await scene.load.clients.ask("GET", f"/api/v1/agents/{row['id']}")
        for row in await rows("SELECT id FROM agents ORDER BY id")
    ]
    return Snapshot(
        tasks=await rows("SELECT * FROM tasks ORDER BY id"),
        attempts=await rows("SELECT * FROM task_attempts ORDER BY task_id, attempt"),
        letters=await rows("SELECT * FROM dead_letters ORDER BY id"),
        approvals=await rows("SELECT * FROM approvals ORDER BY id"),
        executions=await rows("SELECT * FROM tool_executions ORDER BY id"),
        conversations=await rows("SELECT * FROM conversations ORDER BY id"),
        messages=await rows("SELECT * FROM messages ORDER BY conversation_id, seq"),
        inbox=await rows("SELECT * FROM inbox ORDER BY id"),
        outbox=await rows("SELECT * FROM outbox ORDER BY id"),
        calls=await rows("SELECT * FROM model_calls ORDER BY id"),
        events=await rows("SELECT stream, seq, type, data FROM events ORDER BY stream, seq"),
        streams=await rows("SELECT * FROM streams ORDER BY name"),
        agents=agents,
        lines=_lines(scene.product.data_dir),
        received=model.received,
        sent=model.sent,
        told=scene.load.told,
        runs=runs,
        more={name: await rows(query) for part in PARTS for name, query in part.tables.items()},
    )


def _lines(data_dir: Path) -> list[str]:
    files = sorted((data_dir / "workspaces").rglob(LINES))
    return [line for file in files for line in file.read_text().splitlines()]


async def _settled_runs(product: Product, types: Sequence[str]) -> dict[str, list[str]]:
    """Return Temporal's runs once none is running, or as they stand at the deadline."""
    client = await Client.connect(product.temporal)
    wanted = ", ".join(f"'{name}'" for name in types)
    found: dict[str, list[str]] = {}

    async def none_runs() -> bool:
        runs: defaultdict[str, list[str]] = defaultdict(list)
        async for execution in client.list_workflows(f"WorkflowType IN ({wanted})"):
            status = execution.status
            runs[execution.id].append("?" if status is None else status.name)
        found.clear()
        found.update(runs)
        return bool(found) and "RUNNING" not in {one for each in found.values() for one in each}

    try:
        await until(none_runs, timeout=90, every=0.5, what="the last run")
    except AssertionError:
        return found  # the check names those that still run
    return found
