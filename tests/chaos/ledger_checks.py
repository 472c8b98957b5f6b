"""Checks that hold of every kind of work: money, calls, the model's own log, streams.

Each returns sentences about what is broken; none: it holds.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Protocol

Row = dict[str, Any]
_CALL_NUMBER = re.compile(r"#(\d+)$")
"""The model ends each reply with the number of its request."""


class Record(Protocol):
    """Tables, whole and in order, and what the model saw."""

    conversations: list[Row]
    messages: list[Row]
    calls: list[Row]
    events: list[Row]
    streams: list[Row]
    received: int
    sent: set[int]


def by_conversation(rows: list[Row]) -> dict[int, list[Row]]:
    """Return rows by their conversation, in order."""
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["conversation_id"]].append(row)
    return grouped


def gaps(seen: Record) -> Iterator[str]:
    """Streams have no gaps."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in seen.events:
        numbers[event["stream"]].append(event["seq"])
    for stream in seen.streams:
        if numbers[stream["name"]] != list(range(1, stream["last_seq"] + 1)):
            yield f"stream {stream['name']} has gaps"


def usage(seen: Record) -> Iterator[str]:
    """What a conversation cost is the sum of its calls, cut ones at their worst case."""
    calls = by_conversation(seen.calls)
    for row in seen.conversations:
        total = sum((call["cost_usd"] for call in calls[row["id"]]), Decimal(0))
        if total != row["cost_usd"]:
            yield f"conversation {row['id']} cost {row['cost_usd']}, its calls {total}"
    for call in seen.calls:
        if call["status"] == "reserved":
            yield f"call {call['id']} is still reserved"
        if call["status"] == "unknown" and call["cost_usd"] != call["reserved_usd"]:
            yield f"call {call['id']} is unknown and not settled at its worst case"
        if call["status"] == "failed" and call["cost_usd"]:
            yield f"call {call['id']} failed and cost something"


def _step(row: Row) -> tuple[int, int, int, int]:
    return row["conversation_id"], row["execution"], row["turn"], row["step"]


def replies(seen: Record) -> Iterator[str]:
    """Replies and committed calls are one to one, in usage too."""
    said = {_step(row): row for row in seen.messages if row["role"] == "assistant"}
    committed = [row for row in seen.calls if row["status"] == "committed"]
    counted = Counter(_step(row) for row in committed)
    if counted.keys() != said.keys() or any(count > 1 for count in counted.values()):
        yield f"{len(said)} replies stand against {len(committed)} committed calls"
    for call in committed:
        reply = said.get(_step(call))
        same = ("tokens_in", "tokens_out", "cost_usd", "model", "agent_id")
        if reply is not None and any(reply[name] != call[name] for name in same):
            yield f"call {call['id']} and its reply differ in usage"


def provider(seen: Record) -> Iterator[str]:
    """The model, outside of it all, was called for reserved calls only, each reply used once."""
    if seen.received > len(seen.calls):
        yield f"the model was called {seen.received} times for {len(seen.calls)} reservations"
    used: Counter[int] = Counter()
    for row in seen.messages:
        if row["role"] == "assistant":
            number = _CALL_NUMBER.search(row["content"])
            used[int(number[1]) if number else 0] += 1
    for number, times in used.items():
        if times > 1 or number not in seen.sent:
            yield f"the model's reply {number} was committed {times} times"
