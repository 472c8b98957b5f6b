"""/api/v1/security/ip-rules."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.pagination import TOTAL_HEADER
from api.platform.schemas.ip_rules import IpRuleOut, IpRulesIn

router = CheckedRouter(prefix="/api/v1/security/ip-rules", tags=["Security"])

Force = Annotated[bool, Query(description="Set the rules even if they shut out the caller")]


@router.get("", summary="List the IP rules", responses=documented(401, 403, 503))
async def list_ip_rules(core: CoreDep, response: Response) -> list[IpRuleOut]:
    """A matching deny refuses; else, if any allow rule exists, one must match; else all pass."""
    rules = await core.security.list_ip_rules()
    response.headers[TOTAL_HEADER] = str(len(rules))
    return [IpRuleOut.from_domain(rule) for rule in rules]


@router.put(
    "",
    summary="Replace the IP rules",
    responses=documented(400, 401, 403, 409, 413, 422, 503),
)
async def replace_ip_rules(
    core: CoreDep, response: Response, body: IpRulesIn, force: Force = False
) -> list[IpRuleOut]:
    """The whole list at once, at most 1000. Rules that shut out the caller need `force=true`."""
    rules = await core.security.replace_ip_rules(body.to_command(), force=force)
    response.headers[TOTAL_HEADER] = str(len(rules))
    return [IpRuleOut.from_domain(rule) for rule in rules]
