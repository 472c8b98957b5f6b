"""What no field of ours can hold, refused in one place before any route sees it: `CheckedRouter`.

PostgreSQL stores neither NUL characters nor lone surrogates, and JSON has no NaN or Infinity;
Python's parser lets all four through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from email.message import Message
from typing import cast

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from api.errors import INVALID_BODY
from conclave.errors import BadRequest

MAX_DEPTH = 100
Place = tuple[str | int, ...]


def _text_flaw(text: str) -> tuple[str, str] | None:
    if "\x00" in text:
        return "String should not contain NUL characters", "string_nul"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "String should be a valid unicode string", "string_unicode"
    return None


def _flaw(value: object, depth: int) -> tuple[str, str] | None:
    if isinstance(value, str):
        return _text_flaw(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "Input should be a finite number", "finite_number"
    if depth > MAX_DEPTH and isinstance(value, dict | list):
        return f"Input should not be nested more than {MAX_DEPTH} deep", "too_deep"
    return None


def _children(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, dict):
        yield from cast(dict[str, object], value).items()
    elif isinstance(value, list):
        yield from enumerate(cast(list[object], value))


def find_flaw(root: object, place: Place) -> tuple[Place, str, str] | None:
    """Return (place, message, type) of the first value that cannot be stored."""
    waiting: list[tuple[Place, object]] = [(place, root)]
    base = len(place)
    while waiting:
        here, value = waiting.pop()
        flaw = _flaw(value, len(here) - base)
        if flaw is not None:
            return here, *flaw
        for key, child in _children(value):
            key_flaw = _text_flaw(key) if isinstance(key, str) else None
            if key_flaw is not None:
                return here, *key_flaw
            if isinstance(child, str | float | dict | list):
                waiting.append(((*here, key), cast(object, child)))
    return None


def _refuse(found: tuple[Place, str, str] | None) -> None:
    if found is not None:
        loc, msg, kind = found
        raise RequestValidationError([{"loc": loc, "msg": msg, "type": kind, "input": None}])


def _is_json(content_type: str) -> bool:
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )


async def refuse_unstorable(conn: HTTPConnection) -> None:
    """Check path, query and JSON body of a request. A dependency of every route.

    Raises `RequestValidationError` naming the field, `BadRequest` for a body that is not JSON.
    """
    if not isinstance(conn, Request):
        return
    request = conn
    pairs: Iterable[tuple[str, str]] = request.query_params.multi_items()
    for name, text in pairs:
        _refuse(find_flaw(text, ("query", name)))
    for name, value in request.path_params.items():
        _refuse(find_flaw(value, ("path", name)))
    route: object = request.scope.get("route")
    if isinstance(route, APIRoute) and route.body_field is not None:
        body = await request.body()
        if not body:
            return
        if not _is_json(request.headers.get("content-type", "")):
            raise BadRequest(f"{INVALID_BODY}: send application/json")
        _refuse(find_flaw(await request.json(), ("body",)))


class CheckedRouter(APIRouter):
    """The router of every route: what it is asked is checked by `refuse_unstorable` first."""

    def __init__(
        self, *, prefix: str = "", tags: Sequence[str] = (), include_in_schema: bool = True
    ) -> None:
        super().__init__(
            prefix=prefix,
            tags=[*tags],
            include_in_schema=include_in_schema,
            dependencies=[Depends(refuse_unstorable)],
        )
