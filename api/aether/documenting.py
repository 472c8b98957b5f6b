"""The errors of an operation as this dialect shapes them."""

from __future__ import annotations

from pydantic import JsonValue

_MEANINGS = {
    400: "The body cannot be read, or a value does not fit: which field, and why",
    401: "No credentials, or none that hold",
    403: "Not from here, or not for this role",
    404: "Unknown, or deleted",
    409: "The present state does not allow it, or the key is taken",
    413: "The body is too large",
    503: "Something this service stands on cannot be reached; Retry-After says when to try again",
}
_ERROR: dict[str, JsonValue] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}


def documented(*statuses: int) -> dict[int | str, dict[str, JsonValue]]:
    """Describe the errors of an operation for its `responses`.

    `default` stands for all others, and keeps FastAPI from promising a 422.
    """
    described = {status: _described(_MEANINGS[status]) for status in statuses}
    return {**described, "default": _described("Any other error")}


def _described(meaning: str) -> dict[str, JsonValue]:
    return {"description": meaning, "content": {"application/json": {"schema": _ERROR}}}
