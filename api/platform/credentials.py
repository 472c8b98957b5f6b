"""The credential a request carries, for the one route that reads it itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header


async def get_bearer(authorization: Annotated[str | None, Header()] = None) -> str | None:
    """Return the token of `Authorization: Bearer <token>`."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
