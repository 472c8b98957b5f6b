"""Tasks against a bare workflow of as many activities, and lists against the number of tasks.

A task here takes three model calls: its prompt has the model ask for two calls of a tool there is
none of, so that nothing but model calls runs in both arms.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from dataclasses import dataclass, field

import psycopg

from bench.product import Bench
from bench.raw import QUEUE, Ask
from bench.turns import Arms

TASKS = 500
CALLS = 3
_RUNS = 3
_AT_ONCE = 64
_PATIENCE_SECONDS = 600.0
_LOOK_EVERY_SECONDS = 0.2
_PROMPT = "CALL nothing {}\nCALL nothing {}"
_FEW, _MANY = 100, 10_000
_READS = 200


async def throughput(bench: Bench) -> Arms:
    """Return tasks a second, arms interleaved."""
    headers = {"authorization": f"Bearer {bench.token}"}
    agent = await bench.post(
        "/agents",
        {"name": "bench", "provider": "openai", "model": "gpt-4o-mini"},
    )
    await _widen(bench, agent["id"])
    arms = Arms([], [])
    for run in range(_RUNS):
        pairs = [(True, arms.ours), (False, arms.raw)]
        for is_ours, figures in pairs if run % 2 == 0 else pairs[::-1]:
            begun = time.perf_counter()
            if is_ours:
                await _ours(bench, agent["id"], headers)
            else:
                await _raw(bench)
            figures.append(TASKS / (time.perf_counter() - begun))
    return arms


async def _ours(bench: Bench, agent_id: object, headers: dict[str, str]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)
    body = {"title": "bench", "instructions": _PROMPT, "agent_id": agent_id}

    async def make() -> object:
        async with gate:
            return (await bench.post("/api/v1/tasks", body, headers))["id"]

    ids = await asyncio.gather(*(make() for _ in range(TASKS)))
    await _all_completed(bench, list(ids))


async def _all_completed(bench: Bench, ids: list[object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    url = bench.settings.database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            cursor = await connection.execute(
                "SELECT count(*) FROM tasks WHERE id = ANY(%s) AND status = 'completed'", (ids,)
            )
            row = await cursor.fetchone()
            if row is not None and row[0] == len(ids):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{row} of {len(ids)} tasks are completed")
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _raw(bench: Bench) -> None:
    tag = uuid.uuid4().hex[:8]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def start(n: int) -> object:
        async with gate:
            return await bench.client.start_workflow(
                "BenchTask", Ask(number=n, more=CALLS), id=f"raw-task-{tag}-{n}", task_queue=QUEUE
            )

    await asyncio.gather(*(start(n) for n in range(TASKS)))
    await _all_answered(bench, tag)


async def _all_answered(bench: Bench, tag: str) -> None:
    handles = [bench.client.get_workflow_handle(f"raw-task-{tag}-{n}") for n in range(TASKS)]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def result(n: int) -> None:
        async with gate:
            await handles[n].result()

    await asyncio.gather(*(result(n) for n in range(TASKS)))


async def _widen(bench: Bench, agent_id: object) -> None:
    """Let the agent have every task at once."""
    url = bench.settings.database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "UPDATE agents SET max_concurrent_tasks = %s WHERE id = %s", (TASKS * 2, agent_id)
        )


@dataclass
class Growth:
    """Seconds, the median of each size's reads."""

    few: dict[str, float] = field(default_factory=dict[str, float])
    many: dict[str, float] = field(default_factory=dict[str, float])

    def ratio(self, path: str) -> float:
        """Return how much slower a path is with many tasks."""
        return self.many[path] / self.few[path]


PATHS = ("/api/v1/tasks", "/api/v1/tasks/stats")


async def growth(bench: Bench) -> Growth:
    """Return how long lists and counts take with a hundred tasks and with ten thousand."""
    found = Growth()
    for number, figures in ((_FEW, found.few), (_MANY, found.many)):
        await _store(bench, number)
        for path in PATHS:
            figures[path] = await _read(bench, path)
    return found


async def _read(bench: Bench, path: str) -> float:
    headers = {"authorization": f"Bearer {bench.token}"}
    times: list[float] = []
    for _ in range(_READS):
        begun = time.perf_counter()
        async with bench.http.get(bench.api + path, headers=headers) as response:
            await response.read()
            response.raise_for_status()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


async def _store(bench: Bench, number: int) -> None:
    """Have exactly so many tasks, ended ones, as they would be after some weeks."""
    url = bench.settings.database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("TRUNCATE tasks, task_attempts, dead_letters")
        await connection.execute(
            """
            WITH threads AS (
                INSERT INTO conversations (kind, owner, topic, status, agent_ids, turn_strategy,
                    auto_run, max_turns, turn_timeout)
                SELECT 'task', 'bench', 'bench', 'completed', '{}', 'round_robin', false, 1, 1
                FROM generate_series(1, %s) RETURNING id
            )
            INSERT INTO tasks (title, status, priority, conversation_id, result)
            SELECT 'task ' || id,
                (ARRAY['completed', 'failed', 'cancelled', 'completed'])[id %% 4 + 1],
                (ARRAY['critical', 'high', 'medium', 'low'])[id %% 4 + 1], id, 'done'
            FROM threads
            """,
            (number,),
        )
        await connection.execute("VACUUM ANALYZE tasks")
