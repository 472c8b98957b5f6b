"""Lists of this dialect: bare arrays, in pieces where `limit` or `offset` is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Query, Response

from api.pagination import MAX_OFFSET, TOTAL_HEADER

Row = TypeVar("Row")
MAX_ROWS = 1000


@dataclass(frozen=True)
class Piece:
    """Which rows were asked for."""

    limit: int
    offset: int

    def answer(self, rows: Sequence[Row], total: int, response: Response) -> list[Row]:
        """Return the rows and tell how many there are in all."""
        response.headers[TOTAL_HEADER] = str(total)
        return list(rows)


def piece_of(default_limit: int = MAX_ROWS) -> Callable[..., Awaitable[Piece]]:
    """Make the dependency that reads a list's query parameters."""

    async def read(
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS, description="Most rows to return")] = (
            default_limit
        ),
        offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Rows to skip")] = 0,
    ) -> Piece:
        return Piece(limit=limit, offset=offset)

    return read
