"""A turn through the API against a turn of the raw SDK: latency alone, throughput of many."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.product import Bench
from bench.raw import QUEUE, Answer, Ask

RUNS = 5
_ALONE = 60
_CONVERSATIONS = 200
_AT_ONCE = 64
_TURNS = 400

Turn = Callable[[int], Awaitable[object]]
Pair = tuple[Turn, list[float]]


@dataclass
class Arms:
    """A measured pair, one figure a run."""

    ours: list[float]
    raw: list[float]

    @property
    def ratio(self) -> float:
        """Return ours over raw, of the medians of the runs."""
        return statistics.median(self.ours) / statistics.median(self.raw)


async def prepare(bench: Bench) -> tuple[Turn, Turn]:
    """Make 200 warm conversations in each arm; return how each takes a turn."""
    agents = [
        await bench.post(
            "/agents", {"name": f"bench {n}", "provider": "openai", "model": "gpt-4o-mini"}
        )
        for n in range(3)
    ]
    agent_ids = [agent["id"] for agent in agents]
    ids = [
        (
            await bench.post(
                "/conversations",
                {"topic": "bench", "agent_ids": agent_ids, "auto_run": False, "max_turns": 500},
            )
        )["id"]
        for _ in range(_CONVERSATIONS)
    ]
    tag = uuid.uuid4().hex[:8]
    handles = [
        await bench.client.start_workflow("BenchRaw", id=f"raw-{tag}-{n}", task_queue=QUEUE)
        for n in range(_CONVERSATIONS)
    ]

    async def ours(n: int) -> object:
        return await bench.post(
            f"/conversations/{ids[n % _CONVERSATIONS]}/advance", {"prompt": f"question {n}"}
        )

    async def raw(n: int) -> object:
        handle = handles[n % _CONVERSATIONS]
        return await handle.execute_update(  # pyright: ignore[reportUnknownMemberType]  # the SDK leaves a type argument open
            "ask", Ask(number=n), result_type=Answer
        )

    for arm in (ours, raw):
        await many(arm, range(_CONVERSATIONS), at_once=16)
    return ours, raw


async def latency(ours: Turn, raw: Turn) -> Arms:
    """Return p50 seconds of a turn taken alone, arms interleaved."""
    arms = Arms([], [])
    for run in range(RUNS):
        for arm, figures in _alternating(run, (ours, arms.ours), (raw, arms.raw)):
            times: list[float] = []
            for n in range(_ALONE):
                begun = time.perf_counter()
                await arm(run * _ALONE + n)
                times.append(time.perf_counter() - begun)
            figures.append(statistics.median(times))
    return arms


async def throughput(ours: Turn, raw: Turn) -> Arms:
    """Return turns a second with 64 at once over 200 conversations, arms interleaved."""
    arms = Arms([], [])
    for run in range(RUNS):
        for arm, figures in _alternating(run, (ours, arms.ours), (raw, arms.raw)):
            begun = time.perf_counter()
            await many(arm, range(_TURNS), at_once=_AT_ONCE)
            figures.append(_TURNS / (time.perf_counter() - begun))
    return arms


def _alternating(run: int, first: Pair, second: Pair) -> Sequence[Pair]:
    """Let each arm be the first one every other run."""
    return (first, second) if run % 2 == 0 else (second, first)


async def many(arm: Turn, numbers: range, *, at_once: int) -> None:
    """Run an arm for every number, so many at once."""
    left = iter(numbers)

    async def one_after_the_other() -> None:
        for n in left:
            await arm(n)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(one_after_the_other())
