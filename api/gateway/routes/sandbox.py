"""/api/config/sandbox."""

from __future__ import annotations

from api.errors import documented
from api.gateway.deps import SandboxConfigDep
from api.gateway.schemas.sandbox import SandboxIn, SandboxOut
from api.input import CheckedRouter

router = CheckedRouter(prefix="/api/config/sandbox", tags=["Sandbox"])


@router.get("", summary="Get the sandbox's settings", responses=documented(401, 403, 429, 503))
async def get_sandbox(sandbox: SandboxConfigDep) -> SandboxOut:
    """What commands of agents may use, and what really confines them on this host."""
    return SandboxOut.of(await sandbox.get(), await sandbox.status())


@router.put(
    "",
    summary="Change the sandbox's settings",
    responses=documented(400, 401, 403, 413, 422, 429, 503),
)
async def update_sandbox(sandbox: SandboxConfigDep, body: SandboxIn) -> SandboxOut:
    """What is left out stays."""
    return SandboxOut.of(await sandbox.update(body.changes()), await sandbox.status())
