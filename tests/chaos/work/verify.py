"""What must hold of tasks and approvals after any kills: pure checks over everything stored.

Each returns sentences about what is broken; none: it holds.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.ledger_checks import Row, by_conversation, gaps, provider, replies, usage
from tests.chaos.work.load import ENDS
from tests.chaos.work.script import script_in
from tests.chaos.work.snapshot import Snapshot

_LINE = re.compile(r"echo (\S+) >>")
_ENDED_CALLS = frozenset({"done", "failed", "denied", "cancelled", "unknown"})
_OPEN_LETTERS = frozenset({"pending_retry", "permanently_failed"})
_SOUND_RUNS = frozenset({"COMPLETED", "CONTINUED_AS_NEW"})


def _tasks(seen: Snapshot) -> Iterator[str]:
    """Every task has ended as its script says, holds no slot, and waits for nothing."""
    retried = {row["task_id"] for row in seen.letters if row["status"] == "retried"}
    cancelled_runs = {
        run["id"] for run in seen.more.get("pipeline_runs", []) if run["status"] == "cancelled"
    }
    for row in seen.tasks:
        name, status = f"task {row['id']}", row["status"]
        wanted = script_in(row["instructions"] or "").ends
        if row["id"] in retried:
            wanted = "completed"
        may_be_cancelled = (
            row["id"] in seen.told.asked_to_cancel or row["workflow_run_id"] in cancelled_runs
        )
        is_cancelled = may_be_cancelled and status == "cancelled"
        if status != wanted and not is_cancelled:
            yield f"{name} is {status} ({row['error'] or row['pending_reason']}), not {wanted}"
        if row["is_started"] or row["stop_runs"] or row["next_attempt_at"] is not None:
            yield f"{name} has ended and holds a slot, or has a run to be stopped or begun"
        if status in ENDS and row["completed_at"] is None:
            yield f"{name} is {status} without a time"


def _results(seen: Snapshot) -> Iterator[str]:
    """A completed task's result is the last thing its agent said, and no other task's."""
    messages = by_conversation(seen.messages)
    results = Counter(row["result"] for row in seen.tasks if row["status"] == "completed")
    for row in seen.tasks:
        said = [one for one in messages[row["conversation_id"]] if one["role"] == "assistant"]
        if row["status"] != "completed":
            continue
        if not said or said[-1]["content"] != row["result"] or said[-1]["tool_calls"]:
            yield f"task {row['id']} is completed, and its result is not its agent's last word"
        if results[row["result"]] > 1:
            yield f"task {row['id']} has another task's result"


def _attempts(seen: Snapshot) -> Iterator[str]:
    """Attempts are numbered without gaps, all are over, and the last says how the task ended."""
    of_task: dict[int, list[Row]] = defaultdict(list)
    for row in seen.attempts:
        of_task[row["task_id"]].append(row)
    executions = {row["id"]: row["execution"] for row in seen.conversations}
    for row in seen.tasks:
        name, attempts = f"task {row['id']}", of_task[row["id"]]
        numbers = [one["attempt"] for one in attempts]
        begun = executions.get(row["conversation_id"], 0)
        if numbers and numbers != list(range(1, begun + 1)):
            yield f"{name} has the attempts {numbers} of {begun}"
        if len(numbers) != row["workflow_run"]:
            yield f"{name} had {row['workflow_run']} runs for {len(numbers)} attempts"
        open_ones = [one["attempt"] for one in attempts if one["ended_at"] is None]
        if open_ones:
            yield f"{name} has ended, and its attempts {open_ones} have not"
        last = attempts[-1]["outcome"] if attempts else None
        if row["status"] in {"completed", "failed"} and last != row["status"]:
            yield f"{name} is {row['status']}, and its last attempt {last}"


def _ends_told(seen: Snapshot) -> Iterator[str]:
    """Each end was told once, and each failure for good left one dead letter."""
    told: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for event in seen.events:
        if event["type"] in {"task.created", "task.completed", "task.failed"}:
            told[int(event["stream"].removeprefix("task-"))][event["type"]] += 1
    letters: defaultdict[int, list[str]] = defaultdict(list)
    for letter in seen.letters:
        letters[letter["task_id"]].append(letter["status"])
    for row in seen.tasks:
        name, events, own = f"task {row['id']}", told[row["id"]], letters[row["id"]]
        if events["task.created"] != 1:
            yield f"{name} was told of as created {events['task.created']} times"
        if events["task.completed"] != (row["status"] == "completed"):
            yield f"{name} is {row['status']}: told as completed {events['task.completed']} times"
        if events["task.failed"] != len(own):
            yield f"{name} failed {events['task.failed']} times, with {len(own)} dead letters"
        still_open = sum(status in _OPEN_LETTERS for status in own)
        if still_open != (row["status"] == "failed"):
            yield f"{name} is {row['status']} with {still_open} open dead letters"


def _answers(seen: Snapshot) -> Iterator[str]:
    """What clients were told is so."""
    tasks = {row["id"]: row for row in seen.tasks}
    approvals = {row["id"]: row for row in seen.approvals}
    for task_id, title in seen.told.created.items():
        if task_id not in tasks or tasks[task_id]["title"] != title:
            yield f"task {task_id} was answered for and is not there"
    for task_id in seen.told.cancelled:
        if task_id in tasks and tasks[task_id]["status"] != "cancelled":
            yield f"task {task_id} was told to be cancelled and is {tasks[task_id]['status']}"
    for task_id, text in seen.told.described.items():
        if task_id in tasks and tasks[task_id]["description"] != text:
            yield f"the change of task {task_id} is lost"
    for task_id, shown in seen.told.ended.items():
        stored = tasks.get(task_id)
        same = ("status", "result", "error")
        if stored and any(shown.get(key) != stored.get(key) for key in same):
            yield f"task {task_id} was shown as {shown['status']} and changed after that"
    for approval_id in seen.told.approvals - approvals.keys():
        yield f"approval {approval_id} was answered for and is not there"
    for approval_id, status in seen.told.decided.items():
        stored = approvals.get(approval_id)
        if stored is None or stored["status"] != status:
            yield f"approval {approval_id} was told to be {status} and is not"


def _approvals(seen: Snapshot) -> Iterator[str]:
    """Every approval is decided, and what it was for went by it."""
    executions = {row["id"]: row for row in seen.executions}
    for row in seen.approvals:
        if row["status"] == "pending":
            yield f"approval {row['id']} still waits"
        call = executions.get(row["tool_execution_id"])
        if call is None:
            continue
        may = {"rejected": {"denied"}, "cancelled": {"cancelled"}}.get(row["status"])
        if may is not None and call["status"] not in may:
            yield f"approval {row['id']} is {row['status']}, and its call {call['status']}"


def _lines(seen: Snapshot) -> Iterator[str]:
    """No line is there twice, none is there that was not asked for and allowed, and what the
    ledger calls done is there."""
    asked: dict[str, Row] = {}
    for row in seen.executions:
        found = _LINE.search(str(row["arguments"].get("command")))
        if found is not None:
            asked[found[1]] = row
        if row["status"] not in _ENDED_CALLS:
            yield f"call {row['id']} is still {row['status']}"
        if row["effect"] == "once" and row["attempt"] > 1:
            yield f"call {row['id']} was run {row['attempt']} times"
    for text, times in Counter(seen.lines).items():
        if times > 1:
            yield f"the line {text} was sent {times} times"
        if text not in asked:
            yield f"the line {text} was sent by nobody"
        elif asked[text]["status"] not in {"done", "unknown", "cancelled"}:
            yield f"the line {text} was sent by a call that is {asked[text]['status']}"
    sent = set(seen.lines)
    for text, row in asked.items():
        if row["status"] == "done" and not row["is_error"] and text not in sent:
            yield f"call {row['id']} is done, and its line is not there"


def _owed(seen: Snapshot) -> Iterator[str]:
    """Nothing is owed to the engine, and no change of a task is unheard."""
    if seen.outbox:
        yield f"{len(seen.outbox)} wake-ups are still owed"
    for row in seen.inbox:
        if row["status"] in {"pending", "claimed"}:
            yield f"request {row['id']} to {row['target']} is {row['status']}"


def _tokens(seen: Snapshot) -> Iterator[str]:
    """A task's tokens are those of its committed calls."""
    calls = by_conversation([call for call in seen.calls if call["status"] == "committed"])
    for row in seen.tasks:
        used = sum(one["tokens_in"] + one["tokens_out"] for one in calls[row["conversation_id"]])
        if used != row["cost_tokens"]:
            yield f"task {row['id']} counts {row['cost_tokens']} tokens, its calls {used}"


def _agents(seen: Snapshot) -> Iterator[str]:
    """Nobody works any more, and agents count each end once."""
    ends = Counter((row["agent_id"], row["status"]) for row in seen.tasks)
    failures = Counter(row["agent_id"] for row in seen.letters)
    for row in seen.agents:
        if row["status"] != "idle":
            yield f"agent {row['id']} is {row['status']}"
        if row["tasks_completed"] != ends[row["id"], "completed"]:
            yield f"agent {row['id']} counts {row['tasks_completed']} completed tasks"
        if row["tasks_failed"] != failures[row["id"]]:
            yield f"agent {row['id']} counts {row['tasks_failed']} failed tasks"


def _runs(seen: Snapshot) -> Iterator[str]:
    """No run is stuck or failed; one that was cancelled is of an attempt that was stopped, or
    that was over and waited for the next one."""
    outcomes: dict[str, str | None] = {}
    last: dict[int, str] = {}
    ordinals: Counter[int] = Counter()
    for row in seen.attempts:
        ordinals[row["task_id"]] += 1
        run = ordinals[row["task_id"]]
        base = f"task-{row['task_id']}"
        last[row["task_id"]] = base if run == 1 else f"{base}-{run}"
        outcomes[last[row["task_id"]]] = row["outcome"]
    ended = {last.get(row["id"]) for row in seen.tasks if row["status"] != "cancelled"}
    statuses = {f"approval-{row['id']}": row["status"] for row in seen.approvals}
    for workflow_id, found in seen.runs.items():
        if workflow_id not in outcomes and workflow_id not in statuses:
            if workflow_id.startswith(("task-", "approval-")):
                yield f"{workflow_id} ran for nothing that is stored"
            continue
        outcome = outcomes.get(workflow_id)
        waited = outcome in {"failed", "waiting"} and workflow_id not in ended
        may = _SOUND_RUNS
        if (
            outcome in {"cancelled", "stopped"}
            or waited
            or statuses.get(workflow_id) == "cancelled"
        ):
            may = _SOUND_RUNS | {"CANCELED"}
        if not set(found) <= may:
            yield f"{workflow_id} has runs that are {found}"
    for workflow_id, outcome in outcomes.items():
        if outcome in {"completed", "failed"} and workflow_id not in seen.runs:
            yield f"{workflow_id} {outcome} without a run"


CHECKS = (
    _tasks,
    _results,
    _attempts,
    _ends_told,
    _answers,
    _approvals,
    _lines,
    _owed,
    _tokens,
    _agents,
    _runs,
    gaps,
    usage,
    replies,
    provider,
)
