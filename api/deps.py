"""What routes ask for: the core and the caller.

Coroutines all, because FastAPI runs plain functions in threads, which costs a millisecond each.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.credentials import credential_of
from api.draining import Draining
from conclave.container import Core
from conclave.errors import Unauthenticated, Unavailable
from schema.domain.identity import Principal


async def get_core(conn: HTTPConnection) -> Core:
    """Return the core this application runs on."""
    core: object = getattr(conn.app.state, "core", None)
    if not isinstance(core, Core):
        raise Unavailable("The service is starting.", dependency="core")
    return core


async def get_principal(conn: HTTPConnection) -> Principal:
    """Return who asks, as `api.admission` found. Raises `Unauthenticated` where it found nobody."""
    principal = await get_optional_principal(conn)
    if principal is None:
        raise Unauthenticated("Not authenticated")
    return principal


async def get_optional_principal(conn: HTTPConnection) -> Principal | None:
    """Return who asks; None on public routes, and on optional ones without credentials that hold.

    Such a route judges by other means: a signature, a temporary token.
    """
    principal: object = conn.scope.get("principal")
    assert principal is None or isinstance(principal, Principal)
    return principal


async def get_credential(conn: HTTPConnection) -> str | None:
    """Return what the request shows of its caller, for a route that judges it itself."""
    return credential_of(conn.scope) or None


async def get_draining(conn: HTTPConnection) -> Draining:
    """Return the flag that says this process is about to stop."""
    draining = conn.app.state.draining
    assert isinstance(draining, Draining)
    return draining


CoreDep = Annotated[Core, Depends(get_core)]
PrincipalDep = Annotated[Principal, Depends(get_principal)]
CredentialDep = Annotated[str | None, Depends(get_credential)]
OptionalPrincipalDep = Annotated[Principal | None, Depends(get_optional_principal)]
DrainingDep = Annotated[Draining, Depends(get_draining)]
