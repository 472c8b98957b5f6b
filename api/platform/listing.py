"""Lists of the platform dialect: a bare array, with the number of all rows in X-Total-Count.

Annotations are evaluated here: those of `read` name a variable that only its maker knows.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Query, Response

from api.pagination import TOTAL_HEADER

Row = TypeVar("Row")

_MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True)
class Slice:
    """Which rows were asked for."""

    limit: int
    offset: int

    def answer(self, rows: Sequence[Row], total: int, response: Response) -> list[Row]:
        """Return the rows and tell how many there are in all."""
        response.headers[TOTAL_HEADER] = str(total)
        return list(rows)


def slice_of(default_limit: int = 50, most: int = 200) -> Callable[..., Awaitable[Slice]]:
    """Make the dependency that reads `limit`, `offset` and its older name `skip`."""

    # As a default: annotations are text here, and `most` is known to this function alone.
    asked = Query(default_limit, ge=1, le=most, description="Most rows to return")

    async def read(
        limit: int = asked,
        offset: Annotated[int, Query(ge=0, le=_MAX_OFFSET, description="Rows to skip")] = 0,
        skip: Annotated[
            int | None, Query(ge=0, le=_MAX_OFFSET, description="The same as `offset`")
        ] = None,
    ) -> Slice:
        return Slice(limit=limit, offset=offset if skip is None else skip)

    return read
