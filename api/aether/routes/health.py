"""/api/health."""

from __future__ import annotations

from api.aether.documenting import documented
from api.aether.schemas.health import HealthOut
from api.input import CheckedRouter

router = CheckedRouter(prefix="/api", tags=["Health"])


@router.get("/health", summary="Aether health", responses=documented(503))
async def health() -> HealthOut:
    """The process answers. Asks no dependency: the readiness probe does."""
    return HealthOut()
