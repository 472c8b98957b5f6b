"""/api/profiles."""

from __future__ import annotations

from api.deps import CoreDep, PrincipalDep
from api.errors import documented
from api.gateway.schemas.fields import PathProfile
from api.gateway.schemas.profiles import (
    DefaultOut,
    NamedProfileOut,
    ProfileChoice,
    ProfileIn,
    ProfilesOut,
)
from api.input import CheckedRouter

router = CheckedRouter(prefix="/api/profiles", tags=["Profiles"])


@router.get("", summary="List profiles", responses=documented(401, 403, 429, 503))
async def list_profiles(core: CoreDep) -> ProfilesOut:
    """All of them with their keys masked, and which one is the default."""
    return ProfilesOut.of(await core.profiles.list())


@router.post(
    "",
    status_code=201,
    summary="Create a profile",
    responses=documented(400, 401, 403, 409, 413, 422, 429, 503),
)
async def create_profile(
    core: CoreDep, principal: PrincipalDep, body: ProfileIn
) -> NamedProfileOut:
    """The key is stored encrypted. Addresses inside the network and `secret://name` as a key are
    for administrators."""
    profile = await core.profiles.create(body.to_command(), principal)
    return NamedProfileOut.from_domain(profile)


@router.get("/default", summary="Get the default profile", responses=documented(401, 403, 429, 503))
async def get_default(core: CoreDep) -> DefaultOut:
    """Null where none was chosen."""
    return DefaultOut(default=await core.profiles.default_name())


@router.put(
    "/default",
    summary="Set the default profile",
    responses=documented(400, 401, 403, 404, 413, 422, 429, 503),
)
async def set_default(core: CoreDep, body: ProfileChoice) -> DefaultOut:
    """Its provider and model become the platform's `llm.default_*` as well."""
    return DefaultOut(default=await core.profiles.set_default(body.profile_name))


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete a profile",
    responses=documented(401, 403, 404, 409, 422, 429, 503),
)
async def delete_profile(core: CoreDep, name: PathProfile) -> None:
    """Not the default one, and none that a chat uses."""
    await core.profiles.delete(name)
