"""What routes ask for: the core and the caller.

Coroutines all, because FastAPI runs plain functions in threads, which costs a millisecond each.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.draining import Draining
from conclave.container import Core
from conclave.errors import Unavailable
from schema.domain.identity import LOCAL_PRINCIPAL, Principal


async def get_core(conn: HTTPConnection) -> Core:
    """Return the core this application runs on."""
    core: object = getattr(conn.app.state, "core", None)
    if not isinstance(core, Core):
        raise Unavailable("The service is starting.", dependency="core")
    return core


async def get_principal(conn: HTTPConnection) -> Principal:
    """Return who asks. The gate in `api.security` let nobody through who may not."""
    principal: object = conn.scope.get("principal", LOCAL_PRINCIPAL)
    assert isinstance(principal, Principal)
    return principal


async def get_draining(conn: HTTPConnection) -> Draining:
    """Return the flag that says this process is about to stop."""
    draining = conn.app.state.draining
    assert isinstance(draining, Draining)
    return draining


CoreDep = Annotated[Core, Depends(get_core)]
PrincipalDep = Annotated[Principal, Depends(get_principal)]
DrainingDep = Annotated[Draining, Depends(get_draining)]
