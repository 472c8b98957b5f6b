"""`make bench`: measure, write docs/performance.md, exit 1 where a bound is missed.

Names of figures as arguments measure those alone and write nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from bench import (
    access,
    approvals,
    burst,
    creation,
    deltas,
    product,
    report,
    schedules,
    sockets,
    tasks,
    tools,
    turns,
)
from bench.product import Bench
from bench.report import Figure
from bench.turns import Arms


async def _memory(bench: Bench) -> list[Figure]:
    api, worker = bench.memory_mb("api"), bench.memory_mb("worker-1")
    detail = f"API {api:.0f} MB, worker {worker:.0f} MB, idle after start"
    return [Figure("Memory of API and worker", api + worker, 450, True, detail, "MB")]


async def _turns(bench: Bench) -> list[Figure]:
    ours, raw = await turns.prepare(bench)
    alone = await turns.latency(ours, raw)
    many = await turns.throughput(ours, raw)
    return [
        Figure("A turn alone, p50", alone.ratio, 1.5, True, _milliseconds(alone)),
        Figure("Turns/s, 64 at once over 200", many.ratio, 0.7, False, _rates(many)),
    ]


async def _delta(bench: Bench) -> list[Figure]:
    seconds = await deltas.first_delta(bench)
    detail = "from the model's socket to the client's, p50"
    return [Figure("First streamed delta", seconds * 1000, 60, True, detail, "ms")]


async def _creation(bench: Bench) -> list[Figure]:
    running, waiting, over_http = await creation.creation(bench)
    http = f"; over HTTP {over_http:.0f}/s"
    return [
        Figure("Conversations that run, created/s", running.ratio, 0.6, False, _rates(running)),
        Figure(
            "Conversations that wait, created/s", waiting.ratio, 5, False, _rates(waiting) + http
        ),
    ]


async def _access(bench: Bench) -> list[Figure]:
    found = await access.access(bench)
    added = (
        f"authenticated {_list(found.authenticated, 1000, 1)} ms; "
        f"anonymous {_list(found.anonymous, 1000, 1)} ms"
    )
    share = f"refused {_list(found.refused, 1000, 1)} ms; served {_list(found.served, 1000, 1)} ms"
    return [
        Figure("Knowing who asks, p50 added", found.added * 1000, 1, True, added, "ms"),
        Figure("A refused request over a served one", found.share, 0.25, True, share),
    ]


async def _tools(bench: Bench) -> list[Figure]:
    found = await tools.tools(bench)
    detail = (
        f"ours {_list(found.added, 1000, 1)} ms; raw {_list(found.raw_added, 1000, 1)} ms; with "
        f"the second model call {_list(found.added_in_all, 1000, 1)} ms"
    )
    return [Figure("A tool call adds, p50", found.ratio, 1.3, True, detail)]


async def _sockets(bench: Bench) -> list[Figure]:
    heard = await sockets.crowd(bench)
    delays = (
        f"{sockets.SOCKETS} sockets on {sockets.CHATS} turns, {sockets.PER_SECOND} pieces/s each; "
        f"p50 {heard.delay(0.5) * 1000:.0f} ms, last {heard.delay(1) * 1000:.0f} ms"
    )
    whole = "heard every piece, once and in order"
    took = await sockets.replay(bench)
    return [
        Figure("Streamed text at a crowd, p99", heard.delay(0.99) * 1000, 300, True, delays, "ms"),
        Figure("Of its sockets", heard.heard_whole / heard.sockets, 1, False, whole),
        Figure("A replay of 10,000 events", took, 1, True, "by one socket, ?after=0", "s"),
    ]


async def _burst(bench: Bench) -> list[Figure]:
    found = await burst.burst(bench)
    detail = f"{found.replies} replies in {found.seconds:.0f} s from one worker"
    name = "Model calls a reply, 1,000 messages at once"
    return [Figure(name, found.calls / found.replies, 1, True, detail)]


async def _tasks(bench: Bench) -> list[Figure]:
    many = await tasks.throughput(bench)
    grown = await tasks.growth(bench)
    name = f"Tasks/s, {tasks.TASKS} of {tasks.CALLS} model calls each"
    return [
        Figure(name, many.ratio, 0.6, False, _rates(many)),
        *(
            Figure(
                f"GET {path}, 10,000 tasks over 100",
                grown.ratio(path),
                1.5,
                True,
                f"{grown.few[path] * 1000:.1f} ms; {grown.many[path] * 1000:.1f} ms",
            )
            for path in tasks.PATHS
        ),
    ]


async def _approvals(_: Bench) -> list[Figure]:
    found = await approvals.approvals()
    memory = f"worker {found.before_mb:.0f} MB before; opened in {found.opened_seconds:.0f} s"
    polling = (
        f"transactions {found.idle.transactions:.1f} → {found.waiting.transactions:.1f}, requests "
        f"to Temporal {found.idle.requests:.1f} → {found.waiting.requests:.1f} a second"
    )
    kept = (
        f"decided {found.decided}, effects {found.lines}, after a restart of worker, Temporal and "
        f"PostgreSQL, in {found.decided_seconds:.0f} s"
    )
    added = found.added_transactions + found.added_requests
    return [
        Figure("1,000 chats waiting, memory added", found.grown_mb, 100, True, memory, "MB"),
        Figure("1,000 chats waiting, work added", added, 2, True, polling, "/s"),
        Figure("Of them decided once", found.lines / found.chats, 1, False, kept),
    ]


async def _schedules(bench: Bench) -> list[Figure]:
    found = await schedules.schedules(bench)
    fired = found.firings
    wrong = fired.lost + fired.unexpected + fired.double
    counted = (
        f"{schedules.NUMBER} schedules, {fired.expected} firings due in 90 s: lost "
        f"{fired.lost}, unexpected {fired.unexpected}, double {fired.double}; made in "
        f"{found.made_seconds:.0f} s, removed in {found.removed_seconds:.0f} s"
    )
    late = f"from the nominal second to the row's end; at most {fired.late_most:.2f} s"
    grown = found.memory_after_mb - found.memory_before_mb
    memory = (
        f"Temporal server {found.memory_before_mb:.0f} → {found.memory_after_mb:.0f} MB, with the "
        "firings"
    )
    return [
        Figure("2,000 schedules, firings lost or double", wrong, 0, True, counted, ""),
        Figure("2,000 schedules, lateness, p50", fired.late_median, 3, True, late, "s"),
        Figure("2,000 schedules, memory added", grown, 400, True, memory, "MB"),
    ]


MEASUREMENTS: dict[str, Callable[[Bench], Awaitable[list[Figure]]]] = {
    "memory": _memory,
    "turns": _turns,
    "delta": _delta,
    "creation": _creation,
    "access": _access,
    "tools": _tools,
    "sockets": _sockets,
    "burst": _burst,
    "tasks": _tasks,
    "approvals": _approvals,
    "schedules": _schedules,
}


def _milliseconds(arms: Arms) -> str:
    return f"ours {_list(arms.ours, 1000, 0)} ms; raw {_list(arms.raw, 1000, 0)} ms"


def _rates(arms: Arms) -> str:
    return f"ours {_list(arms.ours, 1, 0)}/s; raw {_list(arms.raw, 1, 0)}/s"


def _list(values: list[float], scale: float, digits: int) -> str:
    return " ".join(f"{value * scale:.{digits}f}" for value in values)


async def main(names: list[str]) -> int:
    """Measure and report; return the exit code."""
    figures: list[Figure] = []
    async with product.running() as bench:
        for name, measure in MEASUREMENTS.items():
            if not names or name in names:
                for figure in await measure(bench):
                    print(figure.row, flush=True)
                    figures.append(figure)
    if not names:
        report.write(figures)
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
