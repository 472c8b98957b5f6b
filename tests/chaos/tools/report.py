"""The figures of a chaos run over tools, as Markdown."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from tests.chaos.tools.campaign import Outcome

MARK = "tool figures"
"""Of the page's markers."""


def figures(outcome: Outcome) -> str:
    """Return what happened as a list."""
    plan, kills, seen = outcome.plan, outcome.kills, outcome.seen
    sends = [row for row in seen.ledger if row["tool_name"] == "send"]
    statuses = Counter(row["status"] for row in sends)
    lines = set(seen.sent)
    sent_unknown = sum(row["status"] == "unknown" and row["text"] in lines for row in sends)
    verdict = (
        f"{len(outcome.broken)} of what must hold, the first: {outcome.broken[0]}"
        if outcome.broken
        else "nothing (no line twice, every cut call told as of unknown outcome, no turn lost)"
    )
    return "\n".join(
        [
            f"Run of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {plan.seed}, "
            f"{outcome.seconds / 60:.1f} minutes, {plan.workers} workers, {plan.chats} chats at "
            "once whose model asks for lines to be appended to a file.",
            "",
            f"- kill -9 of a worker with such a call in flight: "
            f"{sum(kill.counts for kill in kills)} of {len(kills)} kills; calls cut: "
            f"{sum(kill.sends for kill in kills)}, besides {sum(kill.looks for kill in kills)} "
            "that only read and ran again",
            f"- turns: {sum(seen.asked.values())}, calls: {len(sends)}, lines in the file: "
            f"{len(seen.sent)}, of them different ones: {len(lines)}",
            f"- done: {statuses['done']}; told to the model as of unknown outcome: "
            f"{statuses['unknown']}, of which {sent_unknown} had appended their line and "
            f"{statuses['unknown'] - sent_unknown} had not",
            f"- broken: {verdict}",
            "",
        ]
    )
