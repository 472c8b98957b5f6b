"""What the one route that judges its caller itself needs to know of the request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import HTTPConnection

from schema.domain.identity import Principal


async def get_bearer(authorization: Annotated[str | None, Header()] = None) -> str | None:
    """Return the token of `Authorization: Bearer <token>`."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def get_known_principal(conn: HTTPConnection) -> Principal | None:
    """Return who asks, None where the credentials are a temporary token, or there are none."""
    principal: object = conn.scope.get("principal")
    return principal if isinstance(principal, Principal) else None


BearerDep = Annotated[str | None, Depends(get_bearer)]
KnownPrincipalDep = Annotated[Principal | None, Depends(get_known_principal)]
