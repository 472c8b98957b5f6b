"""The checks themselves: each finds what it is for in a record that is otherwise sound."""

from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal

import pytest

from tests.chaos.ledger_checks import Row
from tests.chaos.load import Answer
from tests.chaos.verify import Snapshot, violations

PRICE = Decimal("0.000002")


def _reply(turn: int, agent: int) -> Row:
    step = {"conversation_id": 1, "execution": 1, "turn": turn, "step": 1, "agent_id": agent}
    usage = {"tokens_in": 5, "tokens_out": 3, "cost_usd": PRICE, "model": "gpt"}
    return step | usage


def _sound() -> Snapshot:
    """Two turns of two agents; the second call of turn 2 was cut and repeated."""
    messages = [
        {"seq": 1, "role": "user", "content": "one", "inbox_id": 1, "turn": 1, "agent_id": None},
        {"seq": 2, "role": "assistant", "content": "reply #1", "inbox_id": 1} | _reply(1, 7),
        {"seq": 3, "role": "user", "content": "two", "inbox_id": 2, "turn": 2, "agent_id": None},
        {"seq": 4, "role": "assistant", "content": "reply #3", "inbox_id": 2} | _reply(2, 8),
    ]
    messages = [{"conversation_id": 1} | message for message in messages]
    return Snapshot(
        conversations=[
            {"id": 1, "auto_run": False, "status": "completed", "reason": None, "max_turns": 2}
            | {"turn_count": 2, "last_seq": 4, "agent_ids": [7, 8], "cost_usd": 3 * PRICE}
            | {"fence": None, "speaking_agent_id": None}
        ],
        messages=messages,
        inbox=[
            {"id": turn, "target": "conversation-1", "idempotency_key": key, "prompt": key}
            | {"status": "done", "turn": turn}
            for turn, key in ((1, "one"), (2, "two"))
        ],
        outbox=[],
        calls=[
            {"id": 1, "status": "committed", "reserved_usd": PRICE} | _reply(1, 7),
            {"id": 2, "status": "unknown", "reserved_usd": PRICE} | _reply(2, 8),
            {"id": 3, "status": "committed", "reserved_usd": PRICE} | _reply(2, 8),
        ],
        events=[
            {"stream": "conversation-1", "seq": seq, "type": "conversation.message"}
            | {"conversation_id": 1, "data": {"seq": seq}}
            for seq in range(1, 5)
        ],
        streams=[{"name": "conversation-1", "last_seq": 4}],
        answers=[
            Answer(1, "one", "one", deepcopy(messages[:2]), 1),
            Answer(1, "two", "two", deepcopy(messages[2:]), 2),
        ],
        received=3,
        sent={1, 3},
        known={1},
        runs={"conversation-1": ["COMPLETED"]},
    )


def test_a_sound_record_passes():
    assert violations(_sound()) == []


BREAKAGES: dict[str, Callable[[Snapshot], object]] = {
    "is active": lambda seen: seen.conversations[0].update(status="active"),
    "in the middle of one": lambda seen: seen.conversations[0].update(fence=9),
    "has the turns": lambda seen: seen.messages[3].update(turn=1),
    "has the messages": lambda seen: seen.messages[3].update(seq=5),
    "not spoken in order": lambda seen: seen.messages[1].update(agent_id=8),
    "still owed": lambda seen: seen.outbox.append({"id": 1}),
    "is pending": lambda seen: seen.inbox[0].update(status="pending"),
    "led to": lambda seen: seen.messages.pop(),
    "in its own turn": lambda seen: seen.inbox[0].update(turn=2),
    "another number": lambda seen: seen.answers.pop(),
    "which was another's": lambda seen: seen.inbox[1].update(turn=1),
    "the answer to 'one' holds": lambda seen: seen.answers[0].messages.pop(),
    "differs from the record": lambda seen: seen.answers[0].messages[1].update(content="other"),
    "has gaps": lambda seen: seen.streams[0].update(last_seq=5),
    "are not its messages": lambda seen: seen.events[3]["data"].update(seq=3),
    "its calls": lambda seen: seen.conversations[0].update(cost_usd=2 * PRICE),
    "still reserved": lambda seen: seen.calls[1].update(status="reserved"),
    "at its worst case": lambda seen: seen.calls[1].update(reserved_usd=2 * PRICE),
    "failed and cost": lambda seen: seen.calls[1].update(status="failed"),
    "committed calls": lambda seen: seen.calls[1].update(status="committed"),
    "differ in usage": lambda seen: seen.calls[2].update(tokens_out=4),
    "reservations": lambda seen: setattr(seen, "received", 4),
    "was committed 2 times": lambda seen: seen.messages[3].update(content="reply #1"),
    "has runs that are": lambda seen: seen.runs["conversation-1"].append("RUNNING"),
    "without a run": lambda seen: seen.runs.clear(),
}


@pytest.mark.parametrize("finding", BREAKAGES)
def test_each_breakage_is_found(finding: str):
    seen = _sound()
    BREAKAGES[finding](seen)
    assert any(finding in broken for broken in violations(seen))
