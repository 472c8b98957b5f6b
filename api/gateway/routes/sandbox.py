"""/api/config/sandbox."""

from __future__ import annotations

from api.deps import CoreDep
from api.errors import documented
from api.gateway.schemas.sandbox import SandboxIn, SandboxOut
from api.input import CheckedRouter

router = CheckedRouter(prefix="/api/config/sandbox", tags=["Sandbox"])


@router.get("", summary="Get the sandbox's settings", responses=documented(401, 403, 429, 503))
async def get_sandbox(core: CoreDep) -> SandboxOut:
    """What commands of agents may use, and what really confines them on this host."""
    return SandboxOut.of(await core.sandbox_config.get(), await core.sandbox_config.status())


@router.put(
    "",
    summary="Change the sandbox's settings",
    responses=documented(400, 401, 403, 413, 422, 429, 503),
)
async def update_sandbox(core: CoreDep, body: SandboxIn) -> SandboxOut:
    """What is left out stays."""
    return SandboxOut.of(
        await core.sandbox_config.update(body.changes()), await core.sandbox_config.status()
    )
