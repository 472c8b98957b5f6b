"""What people see of a run in Temporal: search attributes, summary, details in Markdown.

Search attributes and ids are never encrypted: nothing that is said or secret may stand in them.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate
from temporalio.common import TypedSearchAttributes as Attributes

with workflow.unsafe.imports_passed_through():
    from schema.domain.pipelines import OPEN_STEPS, RunStatus, StepStatus
    from schema.payloads import names
    from schema.payloads.approvals import ApprovalInput
    from schema.payloads.conversations import ConversationState
    from schema.payloads.pipelines import PipelineState
    from schema.payloads.tasks import TaskInput

AGENT_ID = SearchAttributeKey.for_keyword_list(names.AGENT_ID_ATTRIBUTE)
CIRCLE_NAME = SearchAttributeKey.for_keyword(names.CIRCLE_NAME_ATTRIBUTE)
KIND = SearchAttributeKey.for_keyword(names.KIND_ATTRIBUTE)
STATUS = SearchAttributeKey.for_keyword(names.STATUS_ATTRIBUTE)
COST_USD = SearchAttributeKey.for_float(names.COST_USD_ATTRIBUTE)


def start_attributes(state: ConversationState) -> Attributes:
    """Return what a run is found by from its first moment."""
    pairs: list[SearchAttributePair[list[str]] | SearchAttributePair[str]] = [
        SearchAttributePair(AGENT_ID, [str(agent) for agent in state.floor.agent_ids]),
        SearchAttributePair(KIND, state.kind.value),
        SearchAttributePair(STATUS, state.status.value),
    ]
    if state.circle_name is not None:
        pairs.append(SearchAttributePair(CIRCLE_NAME, state.circle_name))
    return Attributes(pairs)


def project_attributes(kind: str) -> Attributes:
    """Return what a project's checkout or removal is found by."""
    return Attributes([SearchAttributePair(KIND, kind)])


def trigger_attributes() -> Attributes:
    """Return what a trigger's firings are found by."""
    return Attributes([SearchAttributePair(KIND, "trigger")])


def status_attributes(
    state: ConversationState,
) -> list[SearchAttributeUpdate[str] | SearchAttributeUpdate[float]]:
    """Return what changes with the status. The cost is brought up to date with it."""
    return [
        STATUS.value_set(state.status.value),
        COST_USD.value_set(state.spent_micro_usd / 1_000_000),
    ]


def summary(state: ConversationState) -> str:
    """Return the one line that lists show."""
    place = f" in {state.circle_name}" if state.circle_name is not None else ""
    return f"{state.kind.value} {state.conversation_id}{place}, {len(state.labels)} agents"


def static_details(state: ConversationState) -> str:
    """Return what stays true of the run, in Markdown."""
    agents = "\n".join(
        f"- agent {agent}: {state.labels.get(agent, '')}" for agent in state.floor.agent_ids
    )
    ways = "by itself" if state.auto_run else "one turn for each request"
    return (
        f"**{state.kind.value.capitalize()} {state.conversation_id}** runs {ways}, "
        f"{state.floor.strategy.value}, at most {state.max_turns} turns.\n\n{agents}\n\n"
        f"Messages: `GET /conversations/{state.conversation_id}/messages`"
    )


def details(state: ConversationState, speaking: int | None) -> str:
    """Return how things stand, in Markdown that reads well without table borders."""
    if speaking is None:
        floor = f"Nobody speaks; {state.turn_count} of {state.max_turns} turns are over."
    else:
        speaker = state.labels.get(speaking, f"agent {speaking}")
        floor = f"**{speaker}**, turn {state.turn_count + 1} of {state.max_turns}."
    waiting = ", ".join(str(item.id) for item in state.inbox) or "none"
    return (
        f"{floor}\n\n- status: {state.status.value}\n- requests waiting: {waiting}\n"
        f"- spent: ${state.spent_micro_usd / 1_000_000:.6f}"
    )


def approval_summary(asked: ApprovalInput) -> str:
    """Return the one line that lists show of an approval."""
    return f"approval {asked.approval_id}: {asked.action}"


def approval_attributes() -> Attributes:
    """Return what an approval's run is found by."""
    return Attributes([SearchAttributePair(KIND, "approval")])


def task_attributes(state: TaskInput) -> Attributes:
    """Return what an attempt at a task is found by."""
    return Attributes(
        [
            SearchAttributePair(AGENT_ID, [str(state.agent_id)]),
            SearchAttributePair(KIND, "task"),
        ]
    )


def task_summary(state: TaskInput) -> str:
    """Return the one line that lists show of an attempt."""
    return f"task {state.task_id}, attempt {state.execution}: {state.label}"


def task_details(state: TaskInput, doing: str, spent_micro_usd: int) -> str:
    """Return how things stand, in Markdown."""
    waiting = ", ".join(str(item.id) for item in state.inbox) or "none"
    return (
        f"{doing}\n\n- agent {state.agent_id}: {state.label}\n- turns: {state.turn}\n"
        f"- changes waiting: {waiting}\n- spent: ${spent_micro_usd / 1_000_000:.6f}\n\n"
        f"`GET /api/v1/tasks/{state.task_id}`"
    )


def task_end_attributes(
    outcome: str, spent_micro_usd: int
) -> list[SearchAttributeUpdate[str] | SearchAttributeUpdate[float]]:
    """Return what an attempt of version 1 is found by once it is over."""
    return [
        STATUS.value_set(outcome),
        COST_USD.value_set(spent_micro_usd / 1_000_000),
    ]


def pipeline_attributes() -> Attributes:
    """Return what a pipeline's run is found by."""
    return Attributes(
        [SearchAttributePair(KIND, "pipeline"), SearchAttributePair(STATUS, RunStatus.QUEUED.value)]
    )


def pipeline_status(status: RunStatus) -> list[SearchAttributeUpdate[str]]:
    """Return what changes with a run's status."""
    return [STATUS.value_set(status.value)]


def pipeline_summary(state: PipelineState) -> str:
    """Return the one line that lists show of a pipeline's run."""
    return f"run {state.run_id} of workflow {state.pipeline_id}"


def pipeline_static_details(state: PipelineState) -> str:
    """Return what stays true of a pipeline's run, in Markdown."""
    return (
        f"**Run {state.run_id}** of workflow {state.pipeline_id}.\n\n"
        f"Steps: `GET /api/v1/workflows/{state.pipeline_id}/runs/{state.run_id}`"
    )


def pipeline_details(state: PipelineState, starting: list[int]) -> str:
    """Return how a pipeline's run stands, in Markdown: what runs, what waits, what is done."""
    if state.plan is None:
        return "Not begun."
    by_status: dict[StepStatus, list[int]] = {status: [] for status in StepStatus}
    for step, mark in zip(state.plan.steps, state.marks, strict=True):
        by_status[mark.status].append(step.id)
    retrying = [
        step.id
        for step, mark in zip(state.plan.steps, state.marks, strict=True)
        if mark.status is StepStatus.PENDING and mark.due is not None
    ]
    starts = [state.plan.steps[place].id for place in starting]
    lines = [
        f"- {word}: {', '.join(map(str, ids)) or 'none'}"
        for word, ids in (
            ("starting", starts),
            ("running", by_status[StepStatus.RUNNING]),
            ("waiting for the next attempt", retrying),
            ("failed", by_status[StepStatus.FAILED]),
        )
    ]
    over = sum(len(by_status[status]) for status in StepStatus if status not in OPEN_STEPS)
    return f"**{over}** of {len(state.marks)} steps are over.\n\n" + "\n".join(lines)
