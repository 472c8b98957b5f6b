"""The figures of a chaos run, as Markdown."""

from __future__ import annotations

import statistics
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.campaign import MODEL_SECONDS, Outcome
from tests.chaos.kills import Kill, Kind
from tests.chaos.ledger_checks import Row

MARK = "figures"


def figures(outcome: Outcome) -> str:
    """Return what happened as a table and a list."""
    seen, kills = outcome.seen, outcome.kills
    statuses = Counter(call["status"] for call in seen.calls)
    replies = statuses["committed"]
    counted = sum(kill.counts for kill in kills)
    lines = [
        f"Run of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {outcome.plan.seed}, "
        f"{outcome.seconds / 60:.1f} minutes, {outcome.plan.workers} workers, a model that takes "
        f"{MODEL_SECONDS:.0f} s a reply.",
        "",
        "| killed with -9 | kills that count | of | calls in flight | ready again after, s: median,"
        " worst | turns in flight committed after, s: median, worst |",
        "|---|---|---|---|---|---|",
        *(_line(kind, kills, seen.calls) for kind in Kind),
        "",
        "The last column counts from the kill, the model's own time included, and leaves out the "
        f"{sum(kill.hurried for kill in kills)} kills that were followed by the next one before "
        "those turns were over.",
        "",
        f"- kills with work in flight: {counted} of {len(kills)} ({counted / len(kills):.0%}); "
        "the others do not count",
        f"- conversations: {len(seen.conversations)}, turns: {replies}, prompts accepted: "
        f"{len(seen.inbox)}, answers given to clients: {len(seen.answers)}, requests that clients "
        f"had to send again: {outcome.retries}",
        f"- broken: {_verdict(outcome)}",
        f"- model calls reserved: {len(seen.calls)}, of which cut and settled at their worst case: "
        f"{statuses['unknown']}, failed: {statuses['failed']}; requests the model saw: "
        f"{seen.received}, repeated: {max(0, seen.received - replies)} "
        f"({max(0, seen.received - replies) / max(1, replies):.1%} of the turns)",
    ]
    return "\n".join(lines) + "\n"


def _verdict(outcome: Outcome) -> str:
    if outcome.broken:
        return f"{len(outcome.broken)} of what must hold, the first: {outcome.broken[0]}"
    return (
        "nothing (no turn lost, doubled or out of order, no prompt unanswered, no reply committed "
        "twice, usage equal to what is committed, no stuck workflow)"
    )


def _line(kind: Kind, kills: list[Kill], calls: list[Row]) -> str:
    these = [kill for kill in kills if kill.kind is kind]
    counted = [kill for kill in these if kill.counts]
    ready = [kill.ready_after for kill in counted]
    resumed = [
        seconds for kill in counted if not kill.hurried for seconds in _resumed_after(kill, calls)
    ]
    in_flight = sum(kill.in_flight for kill in counted)
    return (
        f"| {kind.value} | {len(counted)} | {len(these)} | {in_flight} "
        f"| {_spread(ready if kind is not Kind.BACKEND else [])} | {_spread(resumed)} |"
    )


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.1f}, {max(seconds):.1f}"


def _resumed_after(kill: Kill, calls: list[Row]) -> list[float]:
    """Return for each call in flight at the kill how long after it the turn was committed."""
    at = datetime.fromtimestamp(kill.at, UTC)
    committed = {_step(call): call["ended_at"] for call in calls if call["status"] == "committed"}
    return [
        (committed[_step(call)] - at).total_seconds()
        for call in calls
        if call["created_at"] < at <= call["ended_at"] and _step(call) in committed
    ]


def _step(call: Row) -> tuple[int, int, int, int]:
    return call["conversation_id"], call["execution"], call["turn"], call["step"]


def write(text: str, page: Path, mark: str) -> None:
    """Put the figures between the page's markers of that name."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}{end}{after}")
