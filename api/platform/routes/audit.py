"""/api/v1/admin/audit."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.audit import AuditOut, audit_filter
from conclave.audit.commands import AuditFilter

router = CheckedRouter(prefix="/api/v1/admin", tags=["Admin"])


@router.get("/audit", summary="Read the audit log", responses=documented(401, 403, 422, 503))
async def list_audit_entries(
    core: CoreDep,
    response: Response,
    piece: Annotated[Slice, Depends(slice_of(100, most=500))],
    wanted: Annotated[AuditFilter, Depends(audit_filter)],
) -> list[AuditOut]:
    """Newest first. Entries are never changed or deleted; `conclave audit verify` proves it."""
    entries, total = await core.audit.list(wanted, piece.limit, piece.offset)
    return piece.answer([AuditOut.from_domain(entry) for entry in entries], total, response)
