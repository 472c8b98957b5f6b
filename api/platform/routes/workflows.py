"""/api/v1/workflows. The core calls them pipelines."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.fields import PathId
from api.platform.schemas.workflows import (
    RunDetail,
    RunIn,
    RunOut,
    RunQuery,
    StepIn,
    StepOut,
    WorkflowDetail,
    WorkflowIn,
    WorkflowOut,
    WorkflowQuery,
)

router = CheckedRouter(prefix="/api/v1/workflows", tags=["Workflows"])


@router.get("", summary="List workflows", responses=documented(401, 403, 422, 429, 503))
async def list_workflows(
    core: CoreDep,
    response: Response,
    wanted: Annotated[WorkflowQuery, Query()],
    piece: Annotated[Slice, Depends(slice_of())],
) -> list[WorkflowOut]:
    """Newest first, without steps."""
    found, total = await core.pipelines.service.list(wanted.to_filter(), piece.limit, piece.offset)
    return piece.answer([WorkflowOut.from_domain(one) for one in found], total, response)


@router.post(
    "",
    status_code=201,
    summary="Create a workflow",
    responses=documented(400, 401, 403, 413, 422, 429, 503),
)
async def create_workflow(
    core: CoreDep, principal: PrincipalDep, body: WorkflowIn
) -> WorkflowDetail:
    """It is a draft until it has steps."""
    made = await core.pipelines.service.create(body.to_command(), principal)
    return WorkflowDetail.with_steps(made, [])


@router.get(
    "/{workflow_id}", summary="Get a workflow", responses=documented(401, 403, 404, 422, 429, 503)
)
async def get_workflow(core: CoreDep, workflow_id: PathId) -> WorkflowDetail:
    """With its steps by (order, id), each with its status in the latest run."""
    return WorkflowDetail.with_steps(*await core.pipelines.service.get(workflow_id))


@router.post(
    "/{workflow_id}/steps",
    status_code=201,
    summary="Add a step",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def add_step(core: CoreDep, workflow_id: PathId, body: StepIn) -> StepOut:
    """Runs that are under way go on without it."""
    return StepOut.from_domain(
        await core.pipelines.service.add_step(workflow_id, body.to_command())
    )


@router.delete(
    "/{workflow_id}",
    status_code=204,
    summary="Delete a workflow",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def delete_workflow(core: CoreDep, workflow_id: PathId) -> None:
    """Active runs are cancelled."""
    await core.pipelines.service.delete(workflow_id)


@router.post(
    "/{workflow_id}/run",
    status_code=202,
    summary="Run a workflow",
    responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 503),
)
async def run_workflow(
    core: CoreDep, principal: PrincipalDep, workflow_id: PathId, body: RunIn | None = None
) -> RunDetail:
    """The run works on the steps as they are now, whatever is added later."""
    run = await core.pipelines.runs.run(workflow_id, (body or RunIn()).input, principal)
    return RunDetail.with_steps(*run)


@router.get(
    "/{workflow_id}/runs",
    summary="List a workflow's runs",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def list_runs(
    core: CoreDep,
    response: Response,
    workflow_id: PathId,
    wanted: Annotated[RunQuery, Query()],
    piece: Annotated[Slice, Depends(slice_of())],
) -> list[RunOut]:
    """Newest first, without steps."""
    found, total = await core.pipelines.runs.list(
        wanted.to_filter(workflow_id), piece.limit, piece.offset
    )
    return piece.answer([RunOut.from_domain(one) for one in found], total, response)


@router.get(
    "/{workflow_id}/runs/{run_id}",
    summary="Get a run",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def get_run(core: CoreDep, workflow_id: PathId, run_id: PathId) -> RunDetail:
    """With its steps, their outputs and errors."""
    return RunDetail.with_steps(*await core.pipelines.runs.get(workflow_id, run_id))


@router.post(
    "/{workflow_id}/runs/{run_id}/cancel",
    summary="Cancel a run",
    responses=documented(401, 403, 404, 409, 422, 429, 503),
)
async def cancel_run(core: CoreDep, workflow_id: PathId, run_id: PathId) -> RunDetail:
    """At once: nothing of it starts any more, its tasks are cancelled too."""
    return RunDetail.with_steps(*await core.pipelines.runs.cancel(workflow_id, run_id))
