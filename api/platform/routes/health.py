"""/api/v1/health."""

from __future__ import annotations

from api.errors import documented
from api.input import CheckedRouter
from api.platform.schemas.health import HealthOut

router = CheckedRouter(prefix="/api/v1", tags=["Health"])


@router.get("/health", summary="Basic health", responses=documented(503))
async def health() -> HealthOut:
    """The process answers. Asks no dependency: the readiness probe does."""
    return HealthOut()
