"""Workflow runs as Temporal holds them."""

from __future__ import annotations

from temporalio.client import Client, WorkflowHistory


async def chain(client: Client, workflow_id: str) -> list[WorkflowHistory]:
    """Return the histories of a workflow id's runs, the first one first."""
    described = await client.get_workflow_handle(workflow_id).describe()
    run_id: str | None = described.raw_description.workflow_execution_info.first_run_id
    histories: list[WorkflowHistory] = []
    while run_id:
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        histories.append(history)
        last = history.events[-1]
        run_id = (
            last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
            if last.HasField("workflow_execution_continued_as_new_event_attributes")
            else None
        )
    return histories
