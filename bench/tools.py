"""What one tool call adds to a turn, against what one more activity adds to the raw arm's.

The turn it is compared with asks for a call too, of a tool there is none of: the model is asked
twice in both, and only one of them runs an activity for the call. What the whole of a tool call
adds, the second model call included, is measured beside it.
"""

from __future__ import annotations

import statistics
import time
import uuid
from dataclasses import dataclass, field

import psycopg

from bench.product import Bench
from bench.raw import QUEUE, Answer, Ask
from bench.turns import RUNS, Turn, many

_EACH = 30
_CONVERSATIONS = 30
_CALL = "CALL list_files {}"
_NO_SUCH_CALL = "CALL nothing {}"


@dataclass
class Tools:
    """Seconds, the median of each run."""

    plain: list[float] = field(default_factory=list[float])
    """A turn that asks for nothing."""
    refused: list[float] = field(default_factory=list[float])
    """One that asks for a call that cannot run."""
    called: list[float] = field(default_factory=list[float])
    """One that asks for a call that runs."""
    raw: list[float] = field(default_factory=list[float])
    raw_more: list[float] = field(default_factory=list[float])
    """The raw arm with one activity more."""

    @property
    def added(self) -> list[float]:
        """What running a call adds, in each run."""
        return _differences(self.called, self.refused)

    @property
    def added_in_all(self) -> list[float]:
        """What asking for a call, running it and asking the model again adds."""
        return _differences(self.called, self.plain)

    @property
    def raw_added(self) -> list[float]:
        """What an activity adds to the raw arm."""
        return _differences(self.raw_more, self.raw)

    @property
    def ratio(self) -> float:
        """Return ours over raw, of the medians of the runs."""
        return statistics.median(self.added) / statistics.median(self.raw_added)


async def tools(bench: Bench) -> Tools:
    """Measure, one turn of every arm after the other."""
    found = Tools()
    agent = await _agent(bench)
    arms: list[tuple[list[float], Turn]] = [
        (found.plain, await _ours(bench, agent, "")),
        (found.raw, await _raw(bench, 0)),
        (found.refused, await _ours(bench, agent, _NO_SUCH_CALL)),
        (found.raw_more, await _raw(bench, 1)),
        (found.called, await _ours(bench, agent, _CALL)),
    ]
    for _, turn in arms:
        await many(turn, range(_CONVERSATIONS), at_once=8)
    for run in range(RUNS):
        times: list[list[float]] = [[] for _ in arms]
        for n in range(_EACH):
            for taken, (_, turn) in zip(times, arms, strict=True):
                begun = time.perf_counter()
                await turn(run * _EACH + n)
                taken.append(time.perf_counter() - begun)
        for taken, (medians, _) in zip(times, arms, strict=True):
            medians.append(statistics.median(taken))
    await _check(bench, _CONVERSATIONS + RUNS * _EACH)
    return found


async def _check(bench: Bench, turns: int) -> None:
    """Raise RuntimeError unless every turn of an arm asked for its call, and one arm's ran."""
    url = bench.settings.database_url
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT tool_name, status, count(*) FROM tool_executions GROUP BY 1, 2"
        )
        rows = sorted(await cursor.fetchall())
    if rows != [("list_files", "done", turns), ("nothing", "failed", turns)]:
        raise RuntimeError(f"the calls of {turns} turns are not as they should be: {rows}")


async def _agent(bench: Bench) -> object:
    body = {
        "name": "tool user",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "config": {"tools": ["list_files"], "autonomy_level": "autonomous"},
    }
    return (await bench.post("/agents", body))["id"]


async def _ours(bench: Bench, agent: object, order: str) -> Turn:
    body = {"topic": "bench", "agent_ids": [agent], "auto_run": False, "max_turns": 500}
    ids = [(await bench.post("/conversations", body))["id"] for _ in range(_CONVERSATIONS)]

    async def turn(n: int) -> object:
        path = f"/conversations/{ids[n % _CONVERSATIONS]}/advance"
        return await bench.post(path, {"prompt": f"question {n} {order}"})

    return turn


async def _raw(bench: Bench, activities: int) -> Turn:
    tag = uuid.uuid4().hex[:8]
    handles = [
        await bench.client.start_workflow("BenchRaw", id=f"raw-{tag}-{n}", task_queue=QUEUE)
        for n in range(_CONVERSATIONS)
    ]

    async def turn(n: int) -> object:
        return await handles[n % _CONVERSATIONS].execute_update(  # pyright: ignore[reportUnknownMemberType]  # the SDK leaves a type argument open
            "ask", Ask(number=n, more=activities), result_type=Answer
        )

    return turn


def _differences(more: list[float], less: list[float]) -> list[float]:
    return [one - other for one, other in zip(more, less, strict=True)]
