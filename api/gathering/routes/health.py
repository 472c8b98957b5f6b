"""/health."""

from __future__ import annotations

from fastapi import Response

from api.deps import CoreDep, DrainingDep
from api.errors import documented
from api.gathering.schemas.health import ChecksOut, HealthOut, LiveOut, ReadyOut, SystemOut
from api.input import CheckedRouter

router = CheckedRouter(prefix="/health", tags=["Health"])


@router.get(
    "",
    summary="Health with an overview",
    responses=documented(503),
)
async def health(core: CoreDep) -> HealthOut:
    """200 while the process answers; counts are null when the database does not."""
    return HealthOut.from_domain(await core.health.overview())


@router.get(
    "/system",
    summary="System metrics",
    responses=documented(503),
)
async def system(core: CoreDep) -> SystemOut:
    """Processors, memory, the disk of the data directory and the load."""
    return SystemOut.from_domain(await core.health.system())


@router.get(
    "/checks",
    response_model_exclude_none=True,
    summary="Detailed checks",
    responses=documented(503),
)
async def checks(core: CoreDep) -> ChecksOut:
    """This process, the machine, the database, Temporal and the live workers."""
    return ChecksOut.from_domain(await core.health.checks())


@router.get(
    "/ready",
    response_model_exclude_none=True,
    summary="Readiness probe",
    responses={503: {"model": ReadyOut, "description": "Send requests elsewhere: `reason`"}},
)
async def ready(core: CoreDep, draining: DrainingDep, response: Response) -> ReadyOut:
    """503 while shutting down, or when the database or Temporal cannot be reached."""
    reason = "shutting_down" if draining.is_on else await core.health.missing_dependency()
    response.status_code = 503 if reason else 200
    return ReadyOut(ready=reason is None, reason=reason)


@router.get(
    "/live",
    summary="Liveness probe",
    responses=documented(503),
)
async def live() -> LiveOut:
    """The process runs. Asks nothing of anything else."""
    return LiveOut()
