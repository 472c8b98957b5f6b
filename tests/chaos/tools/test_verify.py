"""The checks of tools find what they are for."""

from collections.abc import Callable

import pytest

from tests.chaos.tools.toolbox import Note
from tests.chaos.tools.verify import Snapshot, told_by, violations

UNKNOWN = "The outcome of this call is unknown: the worker died while it ran."


def _sound() -> Snapshot:
    """Two lines sent, of which one in a process that was killed, one cut before, one look."""
    return Snapshot(
        sent=["1-0", "1-1"],
        journal=[
            Note("entered", 7, "send", "1-0"),
            Note("left", 7, "send", "1-0"),
            Note("entered", 7, "send", "1-1"),
            Note("entered", 7, "send", "1-2"),
            Note("entered", 7, "look", "4-look"),
            Note("entered", 8, "look", "4-look"),
            Note("left", 8, "look", "4-look"),
        ],
        ledger=[
            {"id": 1, "tool_name": "send", "text": "1-0", "status": "done"},
            {"id": 2, "tool_name": "send", "text": "1-1", "status": "unknown"},
            {"id": 3, "tool_name": "send", "text": "1-2", "status": "unknown"},
            {"id": 4, "tool_name": "look", "text": "4-look", "status": "done"},
        ],
        told={"1-0": {"sent 1-0"}, "1-1": {UNKNOWN}, "1-2": {UNKNOWN}, "4-look": {"seen 4-look"}},
        turns={1: ["end_turn", "end_turn"]},
        asked={1: 2},
        killed={7},
    )


def test_a_sound_run_passes():
    assert violations(_sound()) == []


BREAKAGES: dict[str, Callable[[Snapshot], object]] = {
    "was sent 2 times": lambda seen: seen.sent.append("1-1"),
    "stands in no ledger": lambda seen: seen.sent.append("9-0"),
    "lines in the ledger": lambda seen: seen.ledger.append(seen.ledger[0] | {"id": 5}),
    "only reads and is unknown": lambda seen: seen.ledger[3].update(status="unknown"),
    "is running": lambda seen: seen.ledger[0].update(status="running"),
    "done and was not sent": lambda seen: seen.sent.remove("1-0"),
    "was entered 2 times": lambda seen: seen.journal.append(Note("entered", 7, "send", "1-1")),
    "was never left": lambda seen: seen.journal.pop(1),
    "was cut and is done": lambda seen: seen.ledger[1].update(status="done"),
    "which lives": lambda seen: seen.killed.clear(),
    "told 0 things": lambda seen: seen.told.pop("1-2"),
    "told 2 things": lambda seen: seen.told["1-0"].add(UNKNOWN),
    "is unknown, and the model was told": lambda seen: seen.told.update({"1-1": {"sent 1-1"}}),
    "is done, and the model was told": lambda seen: seen.told.update({"1-0": {UNKNOWN}}),
    "still owed": lambda seen: setattr(seen, "owed", 1),
    "was asked 2 times": lambda seen: seen.turns[1].pop(),
    "'cancelled'": lambda seen: seen.turns[1].__setitem__(1, "cancelled"),
}


@pytest.mark.parametrize("finding", BREAKAGES)
def test_each_breakage_is_found(finding: str):
    seen = _sound()
    BREAKAGES[finding](seen)
    assert any(finding in broken for broken in violations(seen))


def test_what_the_model_was_told_is_read_from_its_requests():
    call = {"id": "call_1", "function": {"name": "send", "arguments": '{"text": "1-0"}'}}
    again = {"id": "call_1", "function": {"name": "send", "arguments": '{"text": "2-0"}'}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sent 1-0"},
        {"role": "assistant", "tool_calls": [again]},
        {"role": "tool", "tool_call_id": "call_1", "content": UNKNOWN},
    ]
    assert told_by([{"messages": messages[:3]}, {"messages": messages}]) == {
        "1-0": {"sent 1-0"},
        "2-0": {UNKNOWN},
    }
