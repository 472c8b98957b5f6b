"""/api/v1/security: the settings in force."""

from __future__ import annotations

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.schemas.security import (
    PasswordPolicyOut,
    PasswordPolicyPatch,
    SecurityOut,
    SecurityPatch,
)

router = CheckedRouter(prefix="/api/v1/security", tags=["Security"])


@router.get("", summary="Get the security settings", responses=documented(401, 403, 503))
async def get_security(core: CoreDep) -> SecurityOut:
    """What is in force, and how many users have a second factor."""
    return SecurityOut.from_domain(await core.security.overview())


@router.put(
    "",
    summary="Update the security settings",
    responses=documented(400, 401, 403, 404, 413, 422, 503),
)
async def update_security(core: CoreDep, body: SecurityPatch) -> SecurityOut:
    """Merged deeply: what is left out stays. Holds everywhere within a second."""
    return SecurityOut.from_domain(await core.security.update(body.to_command()))


@router.get(
    "/password-policy", summary="Get the password policy", responses=documented(401, 403, 503)
)
async def get_password_policy(core: CoreDep) -> PasswordPolicyOut:
    """What a new password must be; passwords that exist stay valid."""
    return PasswordPolicyOut.from_domain((await core.security.overview()).config.password_policy)


@router.put(
    "/password-policy",
    summary="Update the password policy",
    responses=documented(400, 401, 403, 413, 422, 503),
)
async def update_password_policy(core: CoreDep, body: PasswordPolicyPatch) -> PasswordPolicyOut:
    """What is left out stays."""
    return PasswordPolicyOut.from_domain(
        await core.security.update_password_policy(body.to_command())
    )
