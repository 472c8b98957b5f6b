"""Lists in pieces: limit and offset, or page and page_size."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query, Response
from pydantic import BaseModel

TOTAL_HEADER = "X-Total-Count"
MAX_LIMIT = 500
MAX_OFFSET = 2**31 - 1
MAX_PAGE = 1_000_000
DEFAULT_PAGE_SIZE = 10

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A page with its place in the whole, when page or page_size was sent."""

    items: list[T]
    total: int
    page: int
    page_size: int
    pages: int


class Window(BaseModel):
    """Which piece of a list was asked for, and in which form."""

    limit: int
    offset: int
    page: int | None = None

    def answer(self, rows: Sequence[T], total: int, response: Response) -> list[T] | Page[T]:
        """Return a bare array, or a page; the total stands in a header either way."""
        response.headers[TOTAL_HEADER] = str(total)
        if self.page is None:
            return list(rows)
        return Page(
            items=list(rows),
            total=total,
            page=self.page,
            page_size=self.limit,
            pages=math.ceil(total / self.limit),
        )


def window(default_limit: int) -> Callable[..., Awaitable[Window]]:
    """Make the dependency that reads a list's query parameters."""

    async def read(
        limit: Annotated[
            int, Query(ge=1, le=MAX_LIMIT, description="Most rows to return")
        ] = default_limit,
        offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Rows to skip")] = 0,
        page: Annotated[
            int | None, Query(ge=1, le=MAX_PAGE, description="Page, counted from 1")
        ] = None,
        page_size: Annotated[
            int | None, Query(ge=1, le=MAX_LIMIT, description="Rows a page; 10 if not sent")
        ] = None,
    ) -> Window:
        if page is None and page_size is None:
            return Window(limit=limit, offset=offset)
        size = page_size or DEFAULT_PAGE_SIZE
        number = page or 1
        return Window(limit=size, offset=(number - 1) * size, page=number)

    return read
