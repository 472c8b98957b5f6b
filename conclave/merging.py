"""Changing a stored document key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from conclave.errors import Invalid

Document = TypeVar("Document", bound=BaseModel)


def merge(
    shape: type[Document],
    stored: Mapping[str, object],
    changes: Mapping[str, JsonValue],
    field: str,
) -> Document:
    """Return `stored` with `changes` over it, as `shape`.

    Raises `Invalid` naming the key below `field` that does not fit.
    """
    try:
        return shape.model_validate({**stored, **changes})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join([field, *(str(part) for part in first["loc"])])
        raise Invalid(place, first["msg"], type=first["type"]) from None
