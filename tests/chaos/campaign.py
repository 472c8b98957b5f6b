"""A chaos run: one product, one load, kills in random order, then everything is checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from temporalio.client import Client

from schema.payloads import names
from tests.chaos.kills import Kill, Kind, strike
from tests.chaos.load import Load
from tests.chaos.model import Model, running_model
from tests.chaos.product import Product
from tests.chaos.verify import Snapshot, snapshot, violations
from tests.waiting import until

MODEL_SECONDS = 2.0
"""How long the model thinks: long enough that every kill finds calls in flight."""
_RESUME_SECONDS = 180.0
_END_SECONDS = 240.0
_HURRIED_SHARE = 0.25
"""How many kills are followed by the next one as soon as any turn is in flight again."""
_MISSES_ALLOWED = 3
"""How many times as many kills as asked for are tried before a kind is given up."""


@dataclass(frozen=True)
class Plan:
    """`kills` is how many of each kind must count."""

    kills: int
    seed: int
    talks: int = 6
    dialogues: int = 3
    turns: int = 5
    workers: int = 2


@dataclass
class Outcome:
    """What happened, and what is broken: nothing should be."""

    plan: Plan
    kills: list[Kill]
    seen: Snapshot
    broken: list[str]
    retries: int
    seconds: float


async def run(plan: Plan, root: Path, tell: Callable[[str], None]) -> Outcome:
    """Kill until every kind has its number, let everything end, and check it.

    `root` must be passable by PostgreSQL's user, with a short path.
    """
    began = time.monotonic()
    with running_model(root, delay=MODEL_SECONDS) as model:
        async with Product(root, model_url=model.base_url, workers=plan.workers) as product:
            tell(f"up after {time.monotonic() - began:.1f} s; seed {plan.seed}")
            load = Load(product, talks=plan.talks, dialogues=plan.dialogues, turns=plan.turns)
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                kills = await _kill_all(plan, product, model, load, tell)
                load.finish()
            await load.end_strays()
            tell("every client has its answers; waiting for the rest to end")
            await until(lambda: _all_is_over(product), timeout=_END_SECONDS, what="the end")
            seen = await snapshot(product, model, load.answers, load.known)
            seen.runs = await _settled_runs(product)
    broken = violations(seen)
    return Outcome(plan, kills, seen, broken, load.retries, time.monotonic() - began)


async def _kill_all(
    plan: Plan, product: Product, model: Model, load: Load, tell: Callable[[str], None]
) -> list[Kill]:
    dice = random.Random(plan.seed)
    done: list[Kill] = []
    for _ in range(plan.kills * _MISSES_ALLOWED):
        counted = Counter(kill.kind for kill in done if kill.counts)
        missing = [kind for kind in Kind if counted[kind] < plan.kills]
        for kind in dice.sample(missing, len(missing)):
            await until(
                lambda: _works(product, model), timeout=_RESUME_SECONDS, every=0.1, what="work"
            )
            moment = time.monotonic() + dice.uniform(0, MODEL_SECONDS)
            await until(lambda moment=moment: time.monotonic() >= moment, what="the moment")
            hurried = dice.random() < _HURRIED_SHARE
            kill = await strike(kind, product, model, load, dice, hurried=hurried)
            done.append(kill)
            tell(
                f"killed {kind.value}: {kill.in_flight} calls in flight, {kill.requests} requests "
                f"open{'' if kill.counts else ' (does not count)'}, ready after "
                f"{kill.ready_after:.1f} s"
            )
            if not hurried:
                await until(
                    lambda kill=kill: _has_resumed(product, kill),
                    timeout=_RESUME_SECONDS,
                    every=0.2,
                    what=f"the turns that were in flight with {kind.value}",
                )
        if not missing:
            return done
    counted = Counter(kill.kind for kill in done if kill.counts)
    assert all(counted[kind] >= plan.kills for kind in Kind), f"too few kills count: {counted}"
    return done


def _works(product: Product, model: Model) -> bool:
    """Whether some worker that lives waits for the model."""
    pids = product.pids()
    return bool(model.in_flight([pids[name] for name in product.workers]))


async def _has_resumed(product: Product, kill: Kill) -> bool:
    """Whether every turn that was in flight at the kill has its reply."""
    try:
        left = await product.rows(
            "SELECT 1 FROM model_calls AS cut WHERE created_at < to_timestamp(%s) AND NOT EXISTS ("
            "SELECT 1 FROM model_calls AS done WHERE status = 'committed'"
            " AND done.conversation_id = cut.conversation_id AND done.execution = cut.execution"
            " AND done.turn = cut.turn AND done.step = cut.step)",
            kill.at,
        )
    except psycopg.OperationalError:
        return False
    return not left


async def _all_is_over(product: Product) -> bool:
    running = await product.rows(
        "SELECT id FROM conversations WHERE status IN ('pending', 'active', 'paused')"
        " UNION ALL SELECT id FROM outbox"
    )
    return not running


async def _settled_runs(product: Product) -> dict[str, list[str]]:
    """Return Temporal's runs of conversations once none is running, or as they stand at the
    deadline. Upkeep runs for ever, again and again."""
    client = await Client.connect(product.temporal)
    found: dict[str, list[str]] = {}

    async def none_runs() -> bool:
        found.clear()
        runs: defaultdict[str, list[str]] = defaultdict(list)
        async for execution in client.list_workflows(
            f"WorkflowType = '{names.CONVERSATION_WORKFLOW}'"
        ):
            status = execution.status
            runs[execution.id].append("?" if status is None else status.name)
        found.update(runs)
        return bool(found) and "RUNNING" not in {one for each in found.values() for one in each}

    try:
        await until(none_runs, timeout=60, every=0.5, what="the last run")
    except AssertionError:
        return found  # the check names those that still run
    return found
