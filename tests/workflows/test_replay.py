"""Every recorded history replays on this build, as production would replay it."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from conclave.crypto import Keyring, new_key
from schema.payloads import names
from tests.histories.changed import CHANGED
from tests.histories.files import KEY, load, recorded
from worker.registry import WORKFLOWS
from worker.sandbox import sandboxed_runner
from workflows.codec import data_converter

FILES = pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
CLOSED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
}


def replayer(*workflows: type, key: str = KEY) -> Replayer:
    return Replayer(
        workflows=workflows or WORKFLOWS,
        workflow_runner=sandboxed_runner(),
        data_converter=data_converter(Keyring.parse(key)),
    )


@FILES
async def test_a_recorded_history_replays(path: Path):
    result = await replayer().replay_workflow(load(path), raise_on_replay_failure=False)
    assert result.replay_failure is None


@FILES
async def test_a_workflow_that_decides_otherwise_is_refused(path: Path):
    with pytest.raises(workflow.NondeterminismError):
        await replayer(*CHANGED).replay_workflow(load(path))


async def test_a_history_does_not_replay_without_its_key():
    result = await replayer(key=new_key()).replay_workflow(
        load(recorded()[0]), raise_on_replay_failure=False
    )
    assert result.replay_failure is not None


def test_together_the_histories_hold_all_that_happens_to_workflows():
    histories = [load(path) for path in recorded()]
    held = {event.event_type for history in histories for event in history.events}
    assert held >= {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
        EventType.EVENT_TYPE_TIMER_FIRED,
        EventType.EVENT_TYPE_TIMER_CANCELED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED,
        *CLOSED,
    }
    assert any(attempts(history) >= 3 for history in histories)
    assert activities(histories) == {
        names.COMPLETE_ACTIVITY,
        names.LOOK_ACTIVITY,
        names.SETTLE_ACTIVITY,
        names.FINISH_ACTIVITY,
        names.EXECUTE_TOOL_ACTIVITY,
        names.LOOK_AT_APPROVAL_ACTIVITY,
        names.DECIDE_APPROVAL_ACTIVITY,
        names.CHORE_ACTIVITY,
        names.CLONE_ACTIVITY,
        names.SETTLE_CHECKOUT_ACTIVITY,
        names.REMOVE_FILES_ACTIVITY,
        names.LOOK_AT_TASK_ACTIVITY,
        names.FAIL_TASK_ACTIVITY,
        names.REQUEUE_TASK_ACTIVITY,
        names.CLOSE_TASK_ACTIVITY,
        names.BEGIN_RUN_ACTIVITY,
        names.LOOK_AT_RUN_ACTIVITY,
        names.START_STEPS_ACTIVITY,
        names.FINISH_RUN_ACTIVITY,
        names.CLAIM_FIRING_ACTIVITY,
        names.ACT_ACTIVITY,
        names.SETTLE_FIRING_ACTIVITY,
        names.CHECK_THRESHOLDS_ACTIVITY,
    }
    assert workflows(histories) == {
        names.CONVERSATION_WORKFLOW,
        names.APPROVAL_WORKFLOW,
        names.UPKEEP_WORKFLOW,
        names.CHECKOUT_WORKFLOW,
        names.REMOVAL_WORKFLOW,
        names.TASK_WORKFLOW,
        names.PIPELINE_WORKFLOW,
        names.TRIGGER_WORKFLOW,
        names.TRIGGER_CHECK_WORKFLOW,
    }
    is_open = {history.events[-1].event_type not in CLOSED for history in histories}
    assert is_open == {True, False}


def attempts(history: WorkflowHistory) -> int:
    """Return how often the activity tried most was tried."""
    return max(event.activity_task_started_event_attributes.attempt for event in history.events)


def workflows(histories: list[WorkflowHistory]) -> set[str]:
    """Return the names of the workflows that ran."""
    return {
        history.events[0].workflow_execution_started_event_attributes.workflow_type.name
        for history in histories
    }


def activities(histories: list[WorkflowHistory]) -> set[str]:
    """Return the names of the activities that ran."""
    return {
        event.activity_task_scheduled_event_attributes.activity_type.name
        for history in histories
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    }
