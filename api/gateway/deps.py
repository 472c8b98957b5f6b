"""What only this dialect's routes ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from api.deps import CoreDep
from conclave.errors import Unavailable
from conclave.ports import Compaction, SandboxConfigStore


async def get_sandbox_config(core: CoreDep) -> SandboxConfigStore:
    """Return what keeps the sandbox's settings."""
    if core.sandbox_config is None:
        raise Unavailable("Nothing keeps the sandbox's settings here.", dependency="sandbox")
    return core.sandbox_config


async def get_compaction(core: CoreDep) -> Compaction:
    """Return what counts and shortens contexts."""
    if core.compaction is None:
        raise Unavailable("Nothing counts contexts here.", dependency="compaction")
    return core.compaction


SandboxConfigDep = Annotated[SandboxConfigStore, Depends(get_sandbox_config)]
CompactionDep = Annotated[Compaction, Depends(get_compaction)]
