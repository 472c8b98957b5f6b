"""Errors on their way out: whatever was raised becomes a problem, and its dialect renders it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import JsonValue
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from api.dialect import Dialect, Flaw, Problem, dialect_of
from conclave.errors import ConclaveError, Invalid, PublicFailure, TooManyRequests
from conclave.logging import get_logger

INVALID_BODY = "Invalid request body"
INTERNAL = Problem(500, "Internal server error", "internal_error")
_UNNAMED = {404: "Resource not found", 405: "Method not allowed"}
_log = get_logger(__name__)


class RangeUnsatisfiable(ConclaveError):
    """No byte that is asked for is there; `headers` tell how many there are."""

    code = "range_unsatisfiable"
    status = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes: nothing of that range is there")
        self.headers: Mapping[str, str] = {"Content-Range": f"bytes */{size}"}


class RateLimited(TooManyRequests):
    """Over a rate limit; `headers` tell which one and how long."""

    def __init__(self, message: str, retry_after: float, headers: Mapping[str, str]) -> None:
        super().__init__(message, retry_after)
        self.headers = headers


def _printable(text: str) -> str:
    """Lone surrogates cannot be encoded, and an error must not fail on its way out."""
    return text.encode("utf-8", "replace").decode()


def render(path: str, problem: Problem, dialects: Sequence[Dialect]) -> Response:
    """Give a problem the envelope of the dialect its path belongs to."""
    dialect = dialect_of(path, dialects)
    status = dialect.invalid_status if problem.status == 422 else problem.status
    return JSONResponse(dialect.render(problem), status, headers=dict(problem.headers))


def _headers(error: ConclaveError) -> dict[str, str]:
    headers = dict(error.headers) if isinstance(error, RateLimited | RangeUnsatisfiable) else {}
    seconds: object = getattr(error, "retry_after", None)
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def problem_of(error: ConclaveError) -> Problem:
    """Translate an error of the core; of what is nobody's fault but ours, nothing is told."""
    if error.status == 500 and not isinstance(error, PublicFailure):
        return INTERNAL
    message = _printable(error.message)
    flaws: tuple[Flaw, ...] = ()
    if isinstance(error, Invalid):
        kind = error.details.get("type", "value_error")
        flaws = (Flaw(("body", *error.field.split(".")), message, str(kind)),)
    return Problem(error.status, message, error.code, flaws, error.details, _headers(error))


def _flaws(error: RequestValidationError) -> list[Flaw]:
    flaws: list[Flaw] = []
    for entry in error.errors():
        found: Mapping[str, object] = entry
        loc = found["loc"]
        places: list[str | int] = []
        if isinstance(loc, tuple | list):
            for part in loc:  # pyright: ignore[reportUnknownVariableType] -- untyped in FastAPI
                places.append(part if isinstance(part, int) else _printable(str(part)))  # pyright: ignore[reportUnknownArgumentType]
        flaws.append(Flaw(tuple(places), _printable(str(found["msg"])), str(found["type"])))
    return flaws


def _of_request(error: RequestValidationError) -> Problem:
    flaws = _flaws(error)
    if any(flaw.type == "json_invalid" for flaw in flaws):
        return Problem(400, INVALID_BODY, "bad_request")
    return Problem(422, "The request is not valid", "invalid", flaws)


def _of_http(error: HTTPException) -> Problem:
    cause = error.__cause__
    if isinstance(cause, ConclaveError):
        return problem_of(cause)
    if error.status_code == 400 and cause is not None:
        return Problem(400, INVALID_BODY, "bad_request")
    message = _UNNAMED.get(error.status_code, _printable(str(error.detail)))
    headers: Mapping[str, str] = error.headers or {}
    return Problem(error.status_code, message, headers=dict(headers))


def to_problem(error: Exception) -> Problem:
    """Translate whatever a route raised."""
    if isinstance(error, ConclaveError):
        return problem_of(error)
    if isinstance(error, RequestValidationError):
        return _of_request(error)
    if isinstance(error, HTTPException):
        return _of_http(error)
    return INTERNAL


def _allowed(request: Request) -> str:
    """Return every method the path answers to: the router names those of its first match only."""
    allowed: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            allowed |= route.methods or set()
    if "GET" in allowed:
        allowed.add("HEAD")
    return ", ".join(sorted(allowed))


def install(app: FastAPI, dialects: Sequence[Dialect]) -> None:
    """Render the errors of every route in the dialect of its path."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = to_problem(error)
        if problem.status == 405:
            problem = replace(problem, headers={"Allow": _allowed(request)})
        if problem.status == 500:
            _log.error("request_crashed", path=request.url.path, exc_info=error)
        elif problem.status > 500:
            _log.warning("request_failed", error=str(error), code=problem.code)
        return render(request.url.path, problem, dialects)

    for kind in (ConclaveError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def documented(*statuses: int) -> dict[int | str, dict[str, JsonValue]]:
    """Describe the errors of an operation for its `responses`, shaped as {"detail"}."""
    detail: dict[str, JsonValue] = {
        "type": "object",
        "required": ["detail"],
        "properties": {"detail": {"type": "string"}},
    }
    return {status: _described(status, detail) for status in statuses}


_MEANINGS = {
    400: "The body cannot be read",
    401: "No credentials, or none that hold",
    402: "A budget does not cover it",
    403: "Not from here, or not with these rights",
    404: "Unknown, or deleted",
    409: "The present state does not allow it",
    413: "The body is too large",
    415: "Files of this type are not taken",
    416: "Nothing of the range that was asked for is there",
    422: "A value does not fit: which field, and why",
    429: "Over a rate limit; Retry-After says when to try again",
    423: "Locked after too many failures; Retry-After says for how long",
    500: "What is stored cannot be read",
    502: "The model provider refused",
    503: "Something this service stands on cannot be reached; Retry-After says when to try again",
    504: "The model provider did not answer in time",
}
_FLAWS: JsonValue = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "type"],
                "properties": {
                    "loc": {
                        "type": "array",
                        "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                    },
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
            },
        }
    },
}


def _described(status: int, detail: JsonValue) -> dict[str, JsonValue]:
    schema = _FLAWS if status == 422 else detail
    return {
        "description": _MEANINGS[status],
        "content": {"application/json": {"schema": schema}},
    }
