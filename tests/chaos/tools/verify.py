"""What must hold of tools after any kills: pure checks over the file, the ledger and the model.

Each returns sentences about what is broken; none: it holds.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.tools.toolbox import SEEN, SENT, Note

Row = dict[str, Any]
_UNKNOWN = "outcome of this call is unknown"


@dataclass
class Snapshot:
    """Everything there is at the end."""

    sent: list[str]
    """The lines of the file."""
    journal: list[Note]
    ledger: list[Row]
    """tool_executions, with `text` of their arguments."""
    told: dict[str, set[str]]
    """What the model was told of each call, by the call's text."""
    turns: dict[int, list[str]]
    """Of each conversation: how its turns ended."""
    asked: dict[int, int]
    """Of each conversation: how many turns were asked for."""
    owed: int = 0
    """Wake-ups and requests that are not answered."""
    killed: set[int] = field(default_factory=set[int])


def violations(seen: Snapshot) -> list[str]:
    """Return all that is broken."""
    checks = (_file, _ledger, _entered, _told, _turns)
    return [broken for check in checks for broken in check(seen)]


def told_by(bodies: Sequence[Row]) -> dict[str, set[str]]:
    """Return what requests to the model say of each call, by the text it was asked with."""
    told: dict[str, set[str]] = defaultdict(set)
    for body in bodies:
        open_calls: dict[str, str] = {}
        for message in body["messages"]:
            for call in message.get("tool_calls") or ():
                open_calls[call["id"]] = json.loads(call["function"]["arguments"])["text"]
            if message["role"] == "tool":
                told[open_calls[message["tool_call_id"]]].add(message["content"])
    return dict(told)


def _file(seen: Snapshot) -> Iterator[str]:
    """No line twice, and none that nobody asked for."""
    asked = {row["text"] for row in seen.ledger if row["tool_name"] == "send"}
    for text, times in Counter(seen.sent).items():
        if times > 1:
            yield f"{text} was sent {times} times"
        if text not in asked:
            yield f"{text} was sent and stands in no ledger"


def _ledger(seen: Snapshot) -> Iterator[str]:
    """One line a call, ended; done is what the file has, unknown is for `once` alone."""
    lines = set(seen.sent)
    for text, times in Counter(row["text"] for row in seen.ledger).items():
        if times > 1:
            yield f"{text} has {times} lines in the ledger"
    for row in seen.ledger:
        name = f"call {row['id']} ({row['text']})"
        if row["tool_name"] == "look" and row["status"] != "done":
            yield f"{name} only reads and is {row['status']}"
        elif row["status"] not in {"done", "unknown"}:
            yield f"{name} is {row['status']}"
        elif row["tool_name"] == "send" and row["status"] == "done" and row["text"] not in lines:
            yield f"{name} is done and was not sent"


def _entered(seen: Snapshot) -> Iterator[str]:
    """A `once` call is entered once at most; one that was not left is of unknown outcome."""
    entered = Counter(note.text for note in seen.journal if note.event == "entered")
    left = {note.text for note in seen.journal if note.event == "left"}
    for row in seen.ledger:
        text, name = row["text"], f"call {row['id']} ({row['text']})"
        if row["tool_name"] == "send" and entered[text] > 1:
            yield f"{name} was entered {entered[text]} times"
        if row["status"] == "done" and text not in left:
            yield f"{name} is done and was never left"
        is_cut = row["tool_name"] == "send" and entered[text] and text not in left
        if is_cut and row["status"] != "unknown":
            yield f"{name} was cut and is {row['status']}"
    over = {(note.pid, note.text) for note in seen.journal if note.event != "entered"}
    for note in seen.journal:
        if note.pid not in seen.killed and (note.pid, note.text) not in over:
            yield f"{note.text} was entered by {note.pid}, which lives, and never left"


def _told(seen: Snapshot) -> Iterator[str]:
    """The model is told of every call, always the same, and what the ledger says."""
    for row in seen.ledger:
        name, said = f"call {row['id']} ({row['text']})", seen.told.get(row["text"], set())
        if len(said) != 1:
            yield f"of {name} the model was told {len(said)} things"
            continue
        [content] = said
        if row["status"] == "unknown":
            right = _UNKNOWN in content
        else:
            right = content == f"{SENT if row['tool_name'] == 'send' else SEEN} {row['text']}"
        if not right:
            yield f"{name} is {row['status']}, and the model was told: {content}"


def _turns(seen: Snapshot) -> Iterator[str]:
    """Every turn that was asked for has ended as turns end, once."""
    if seen.owed:
        yield f"{seen.owed} requests or wake-ups are still owed"
    for conversation_id, number in seen.asked.items():
        ended = seen.turns.get(conversation_id, [])
        odd = [reason for reason in ended if reason != "end_turn"]
        if odd or len(ended) != number:
            yield f"conversation {conversation_id} was asked {number} times: {len(ended)}, {odd}"
