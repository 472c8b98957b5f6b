"""The checks of work find what they are for."""

from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal

import pytest

from tests.chaos.ledger_checks import Row
from tests.chaos.work.load import Told
from tests.chaos.work.script import Script, line_of
from tests.chaos.work.snapshot import Snapshot
from tests.chaos.work.tasks import TASKS

PRICE = Decimal("0.000002")


def violations(seen: Snapshot) -> list[str]:
    return [broken for check in TASKS.checks for broken in check(seen)]


def _task(number: int, status: str, script: Script, **fields: object) -> Row:
    return {
        "id": number,
        "title": f"work {number}",
        "description": None,
        "instructions": script.instructions,
        "status": status,
        "agent_id": 7,
        "conversation_id": 10 + number,
        "is_started": False,
        "stop_runs": [],
        "next_attempt_at": None,
        "completed_at": "then",
        "workflow_run": 1,
        "workflow_run_id": None,
        "result": None,
        "error": None,
        "pending_reason": None,
        "cost_tokens": 0,
    } | fields


def _attempt(task: int, number: int, outcome: str) -> Row:
    return {"task_id": task, "attempt": number, "ended_at": "then", "outcome": outcome}


def _conversation(task: int, execution: int = 1, cost: Decimal = Decimal(0)) -> Row:
    return {"id": 10 + task, "execution": execution, "cost_usd": cost}


def _reply(seq: int, step: int, text: str, *, calls: bool = False) -> Row:
    place = {"conversation_id": 11, "execution": 1, "turn": 1, "step": step, "agent_id": 7}
    usage = {"tokens_in": 5, "tokens_out": 3, "cost_usd": PRICE, "model": "gpt"}
    said = {"seq": seq, "role": "assistant", "content": text, "tool_calls": [{}] if calls else None}
    return place | usage | said


def _call(number: int, step: int, status: str, **place: object) -> Row:
    row = {"id": number, "status": status, "reserved_usd": PRICE, "cost_usd": PRICE}
    usage = {"tokens_in": 5, "tokens_out": 3, "model": "gpt", "agent_id": 7}
    return row | {"conversation_id": 11, "execution": 1, "turn": 1, "step": step} | usage | place


def _events(task: int, *types: str) -> list[Row]:
    return [
        {"stream": f"task-{task}", "seq": seq, "type": f"task.{name}", "data": {}}
        for seq, name in enumerate(types, 1)
    ]


def _execution(number: int, text: str, status: str) -> Row:
    arguments = {"command": line_of(text)}
    ran = {"id": number, "arguments": arguments, "status": status, "attempt": 1}
    return ran | {"effect": "once", "is_error": False}


def _sound() -> Snapshot:
    """A task that sends a line and one that was cut, one refused, one cancelled, one retried by
    hand; an approval of the cut call's neighbour was rejected."""
    done = _task(1, "completed", Script(rounds=1, calls=3), result="All is done. #4")
    done["cost_tokens"] = 16
    refused = _task(2, "failed", Script(is_refused=True, ends="failed"), error="refused")
    cancelled = _task(3, "cancelled", Script())
    revived = _task(4, "failed", Script(failing=9, ends="failed"), workflow_run=2)
    revived |= {"status": "cancelled"}
    return Snapshot(
        tasks=[done, refused, cancelled, revived],
        attempts=[
            _attempt(1, 1, "completed"),
            _attempt(2, 1, "failed"),
            _attempt(3, 1, "cancelled"),
            _attempt(4, 1, "failed"),
            _attempt(4, 2, "cancelled"),
        ],
        letters=[
            {"id": 1, "task_id": 2, "agent_id": 7, "status": "permanently_failed"},
            {"id": 2, "task_id": 4, "agent_id": 7, "status": "retried"},
        ],
        approvals=[
            {"id": 1, "status": "rejected", "tool_execution_id": 3},
            {"id": 2, "status": "approved", "tool_execution_id": None},
        ],
        executions=[
            _execution(1, "1-0", "done"),
            _execution(2, "1-1", "unknown"),
            _execution(3, "1-2", "denied"),
        ],
        conversations=[
            _conversation(1, cost=3 * PRICE),
            _conversation(2),
            _conversation(3),
            _conversation(4, execution=2),
        ],
        messages=[_reply(2, 1, "I send. #1", calls=True), _reply(3, 2, "All is done. #4")],
        inbox=[{"id": 1, "target": "conversation-11", "status": "done"}],
        outbox=[],
        calls=[
            _call(1, 1, "committed"),
            _call(2, 2, "unknown"),
            _call(3, 2, "committed"),
            _call(4, 1, "failed", conversation_id=12, cost_usd=Decimal(0)),
        ],
        events=[
            *_events(1, "created", "updated", "completed"),
            *_events(2, "created", "failed"),
            *_events(3, "created"),
            *_events(4, "created", "failed"),
        ],
        streams=[
            {"name": f"task-{task}", "last_seq": last}
            for task, last in ((1, 3), (2, 2), (3, 1), (4, 2))
        ],
        agents=[{"id": 7, "status": "idle", "tasks_completed": 1, "tasks_failed": 2}],
        lines=["1-0", "1-1"],
        received=4,
        sent={1, 2, 4},
        told=Told(
            created={1: "work 1", 3: "work 3"},
            cancelled={3},
            asked_to_cancel={3, 4},
            ended={1: deepcopy(done)},
            approvals={2},
            decided={1: "rejected", 2: "approved"},
        ),
        runs={
            "task-1": ["COMPLETED"],
            "task-2": ["COMPLETED"],
            "task-3": ["CANCELED"],
            "task-4": ["CANCELED"],
            "task-4-2": ["CANCELED"],
            "approval-1": ["COMPLETED"],
            "approval-2": ["COMPLETED"],
        },
    )


def test_a_sound_record_passes():
    assert violations(_sound()) == []


def _revive(seen: Snapshot) -> None:
    """The task that was retried stays as it was after it failed."""
    seen.tasks[3].update(status="failed")
    seen.attempts[4].update(outcome="failed")


BREAKAGES: dict[str, Callable[[Snapshot], object]] = {
    "task 1 is in_progress": lambda seen: seen.tasks[0].update(status="in_progress"),
    "task 1 is cancelled": lambda seen: seen.tasks[0].update(status="cancelled"),
    "task 2 is completed": lambda seen: seen.tasks[1].update(status="completed"),
    "task 4 is failed (None), not completed": _revive,
    "holds a slot": lambda seen: seen.tasks[2].update(is_started=True),
    "or has a run to be stopped": lambda seen: seen.tasks[2].update(stop_runs=[1]),
    "is failed without a time": lambda seen: seen.tasks[1].update(completed_at=None),
    "not its agent's last word": lambda seen: seen.tasks[0].update(result="other"),
    "another task's result": lambda seen: seen.tasks.append(seen.tasks[0] | {"id": 5}),
    "has the attempts": lambda seen: seen.attempts.pop(3),
    "runs for": lambda seen: seen.tasks[0].update(workflow_run=2),
    "its attempts [1] have not": lambda seen: seen.attempts[0].update(ended_at=None),
    "its last attempt failed": lambda seen: seen.attempts[0].update(outcome="failed"),
    "as created 2 times": lambda seen: seen.events.extend(_events(1, "created")),
    "as completed 2 times": lambda seen: seen.events.extend(_events(1, "completed")),
    "task 2 failed 2 times": lambda seen: seen.events.extend(_events(2, "failed")),
    "with 2 dead letters": lambda seen: seen.letters.append(dict(seen.letters[0])),
    "0 open dead letters": lambda seen: seen.letters[0].update(status="discarded"),
    "task 9 was answered for": lambda seen: seen.told.created.update({9: "work 9"}),
    "told to be cancelled": lambda seen: seen.tasks[2].update(status="completed"),
    "change of task 1 is lost": lambda seen: seen.told.described.update({1: "new"}),
    "changed after that": lambda seen: seen.told.ended[1].update(result="other"),
    "approval 9 was answered for": lambda seen: seen.told.approvals.add(9),
    "told to be approved": lambda seen: seen.approvals[1].update(status="rejected"),
    "still waits": lambda seen: seen.approvals[1].update(status="pending"),
    "and its call done": lambda seen: seen.executions[2].update(status="done"),
    "is still running": lambda seen: seen.executions[1].update(status="running"),
    "was run 2 times": lambda seen: seen.executions[1].update(attempt=2),
    "was sent 2 times": lambda seen: seen.lines.append("1-1"),
    "sent by nobody": lambda seen: seen.lines.append("9-9"),
    "sent by a call that is denied": lambda seen: seen.lines.append("1-2"),
    "its line is not there": lambda seen: seen.lines.remove("1-0"),
    "still owed": lambda seen: seen.outbox.append({"id": 1}),
    "to conversation-11 is claimed": lambda seen: seen.inbox[0].update(status="claimed"),
    "counts 15 tokens": lambda seen: seen.tasks[0].update(cost_tokens=15),
    "agent 7 is busy": lambda seen: seen.agents[0].update(status="busy"),
    "2 completed tasks": lambda seen: seen.agents[0].update(tasks_completed=2),
    "1 failed tasks": lambda seen: seen.agents[0].update(tasks_failed=1),
    "ran for nothing": lambda seen: seen.runs.update({"task-8": ["COMPLETED"]}),
    "has runs that are": lambda seen: seen.runs.update({"task-1": ["RUNNING"]}),
    "task-1 has runs": lambda seen: seen.runs.update({"task-1": ["CANCELED"]}),
    "task-2 has runs": lambda seen: seen.runs.update({"task-2": ["CANCELED"]}),
    "failed without a run": lambda seen: seen.runs.pop("task-2"),
    "has gaps": lambda seen: seen.streams[0].update(last_seq=4),
    "its calls": lambda seen: seen.conversations[0].update(cost_usd=PRICE),
    "still reserved": lambda seen: seen.calls[1].update(status="reserved"),
    "committed calls": lambda seen: seen.calls[1].update(status="committed"),
    "reservations": lambda seen: setattr(seen, "received", 5),
    "was committed 2 times": lambda seen: seen.messages[1].update(content="All is done. #1"),
}


@pytest.mark.parametrize("finding", BREAKAGES)
def test_each_breakage_is_found(finding: str):
    seen = _sound()
    BREAKAGES[finding](seen)
    assert any(finding in broken for broken in violations(seen))
