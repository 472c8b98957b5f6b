"""What must hold after any kills: pure checks over everything that was stored.

Each returns sentences about what is broken; none: it holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.ledger_checks import Row, by_conversation, gaps, provider, replies, usage
from tests.chaos.load import Answer
from tests.chaos.model import Model
from tests.chaos.product import Product


@dataclass
class Snapshot:
    """The tables, whole and in order, and the world outside: the clients' answers, the model."""

    conversations: list[Row]
    messages: list[Row]
    inbox: list[Row]
    outbox: list[Row]
    calls: list[Row]
    events: list[Row]
    streams: list[Row]
    answers: list[Answer]
    received: int
    sent: set[int]
    known: set[int]
    runs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Temporal's runs: the statuses found under each workflow id."""


async def snapshot(
    product: Product, model: Model, answers: list[Answer], known: set[int]
) -> Snapshot:
    """Read everything there is."""
    model.look()
    return Snapshot(
        conversations=await product.rows("SELECT * FROM conversations ORDER BY id"),
        messages=await product.rows("SELECT * FROM messages ORDER BY conversation_id, seq"),
        inbox=await product.rows("SELECT * FROM inbox ORDER BY id"),
        outbox=await product.rows("SELECT * FROM outbox ORDER BY id"),
        calls=await product.rows("SELECT * FROM model_calls ORDER BY id"),
        events=await product.rows(
            "SELECT stream, seq, type, conversation_id, data FROM events ORDER BY stream, seq"
        ),
        streams=await product.rows("SELECT * FROM streams ORDER BY name"),
        answers=answers,
        received=model.received,
        sent=model.sent,
        known=known,
    )


def violations(seen: Snapshot) -> list[str]:
    """Return all that is broken."""
    own = (_turns, _requests, _answers, _events, _workflows)
    checks = (*own, gaps, usage, replies, provider)
    return [broken for check in checks for broken in check(seen)]


def _turns(seen: Snapshot) -> Iterator[str]:
    """Every conversation has ended with each of its turns once, in order, by who was next."""
    messages = by_conversation(seen.messages)
    for row in seen.conversations:
        name, said = f"conversation {row['id']}", messages[row["id"]]
        replies = [message for message in said if message["role"] == "assistant"]
        is_stray = row["id"] not in seen.known and not row["auto_run"]
        turns = 0 if is_stray else row["max_turns"]
        if row["status"] != ("cancelled" if is_stray else "completed"):
            yield f"{name} is {row['status']} ({row['reason']})"
        if row["turn_count"] != turns or row["speaking_agent_id"] or row["fence"]:
            yield f"{name} stands at turn {row['turn_count']} of {turns}, or in the middle of one"
        if [message["turn"] for message in replies] != list(range(1, turns + 1)):
            yield f"{name} has the turns {[message['turn'] for message in replies]}"
        if [message["seq"] for message in said] != list(range(1, row["last_seq"] + 1)):
            yield f"{name} has the messages {[message['seq'] for message in said]}"
        order = [row["agent_ids"][turn % len(row["agent_ids"])] for turn in range(turns)]
        if [message["agent_id"] for message in replies] != order:
            yield f"{name} was not spoken in order"


def _requests(seen: Snapshot) -> Iterator[str]:
    """Every accepted prompt stands in the transcript once, its reply right behind it."""
    if seen.outbox:
        yield f"{len(seen.outbox)} wake-ups are still owed"
    said: dict[int, list[Row]] = defaultdict(list)
    for message in seen.messages:
        if message["inbox_id"] is not None:
            said[message["inbox_id"]].append(message)
    for row in seen.inbox:
        pair = said[row["id"]]
        if row["status"] != "done":
            yield f"request {row['id']} is {row['status']}"
        elif [message["role"] for message in pair] != ["user", "assistant"]:
            yield f"request {row['id']} led to {[message['role'] for message in pair]}"
        elif (
            pair[0]["content"] != row["prompt"]
            or pair[0]["seq"] + 1 != pair[1]["seq"]
            or {pair[0]["turn"], pair[1]["turn"]} != {row["turn"]}
        ):
            yield f"request {row['id']} is not answered in its own turn"


def _answers(seen: Snapshot) -> Iterator[str]:
    """What clients were told is what is stored, each time they asked."""
    stored = {(row["conversation_id"], row["seq"]): row["content"] for row in seen.messages}
    keys = {(row["target"], row["idempotency_key"]): row["turn"] for row in seen.inbox}
    if len(keys) != len({(answer.conversation_id, answer.key) for answer in seen.answers}):
        yield f"{len(keys)} requests are stored, and clients know of another number"
    for answer in seen.answers:
        name = f"the answer to {answer.key!r}"
        if keys.get((f"conversation-{answer.conversation_id}", answer.key)) != answer.turn_count:
            yield f"{name} tells of turn {answer.turn_count}, which was another's"
        if [told["role"] for told in answer.messages] != ["user", "assistant"]:
            yield f"{name} holds {[told['role'] for told in answer.messages]}"
        for told in answer.messages:
            if stored.get((answer.conversation_id, told["seq"])) != told["content"]:
                yield f"{name} differs from the record"


def _events(seen: Snapshot) -> Iterator[str]:
    """Streams tell of every message once and in order."""
    told: dict[int, list[int]] = defaultdict(list)
    for event in seen.events:
        if event["type"] == "conversation.message":
            told[event["conversation_id"]].append(event["data"]["seq"])
    for conversation_id, said in by_conversation(seen.messages).items():
        if told[conversation_id] != [message["seq"] for message in said]:
            yield f"the events of conversation {conversation_id} are not its messages"


def _workflows(seen: Snapshot) -> Iterator[str]:
    """No run is stuck or failed, and every conversation that spoke had one."""
    for workflow_id, statuses in seen.runs.items():
        if not set(statuses) <= {"COMPLETED", "CONTINUED_AS_NEW"}:
            yield f"{workflow_id} has runs that are {statuses}"
    for row in seen.conversations:
        if row["turn_count"] and f"conversation-{row['id']}" not in seen.runs:
            yield f"conversation {row['id']} spoke without a run"
