"""The figures of a chaos run over all kinds of work, as Markdown."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from tests.chaos.kills import Kind
from tests.chaos.work.campaign import MODEL_SECONDS, PLACES, Outcome

MARK = "work figures"
"""Of the page's markers."""


def figures(outcome: Outcome) -> str:
    """Return what happened as lists."""
    plan, kills, seen = outcome.plan, outcome.kills, outcome.seen
    tasks = Counter(row["status"] for row in seen.tasks)
    calls = Counter(row["status"] for row in seen.calls)
    tools = Counter(row["status"] for row in seen.executions)
    counted = Counter(kill.kind for kill in kills if kill.counts)
    ready = {
        kind: max((kill.ready_after for kill in kills if kill.kind is kind), default=0.0)
        for kind in Kind
    }
    verdict = (
        f"{len(outcome.broken)} of what must hold, the first: {outcome.broken[0]}"
        if outcome.broken
        else "nothing (no task lost or ended twice, no line sent twice, no slot held, every dead "
        "letter there once, every step and firing once, costs and budgets equal to the ledger, no "
        "stuck workflow)"
    )
    lines = [
        f"Run of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {plan.seed}, "
        f"{outcome.seconds / 60:.1f} minutes, {plan.workers} workers, {plan.players} clients at "
        f"once, a model that takes {MODEL_SECONDS:.0f} s a reply.",
        "",
        "| killed with -9 | kills that count | of | ready again after, s: worst |",
        "|---|---|---|---|",
        *(
            f"| {kind.value} | {counted[kind]} | {sum(kill.kind is kind for kill in kills)} "
            f"| {ready[kind]:.1f} |"
            for kind in Kind
        ),
        "",
        "| place | processes that died there |",
        "|---|---|",
        *(f"| `{place}` | {outcome.struck[place]} |" for place in PLACES),
        "",
        f"- workflows: {len(seen.runs)}; tasks: {len(seen.tasks)} with {len(seen.attempts)} "
        f"attempts ({', '.join(f'{number} {status}' for status, number in sorted(tasks.items()))})"
        f", dead letters: {len(seen.letters)}, approvals: {len(seen.approvals)}, runs of "
        f"pipelines: {len(seen.more['pipeline_runs'])}, firings of triggers: "
        f"{len(seen.more['trigger_runs'])}, deliveries: {len(seen.more['inbound_events'])}",
        f"- calls of a tool that must not be repeated: {len(seen.executions)}; lines in the files: "
        f"{len(seen.lines)}, of them different ones: {len(set(seen.lines))}; done: "
        f"{tools['done']}, of unknown outcome: {tools['unknown']}, denied: {tools['denied']}, "
        f"cancelled: {tools['cancelled']}",
        f"- model calls reserved: {len(seen.calls)}, of which cut and settled at their worst case: "
        f"{calls['unknown']}, failed: {calls['failed']}; requests the model saw: {seen.received}",
        f"- requests that clients had to send again: {outcome.retries}",
        f"- broken: {verdict}",
    ]
    return "\n".join(lines) + "\n"
