"""The arguments a model wrote: read, and checked against the tool's schema."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import cast

from jsonschema import Draft202012Validator
from pydantic import JsonValue

from schema.domain.tools import Tool

MAX_CHARACTERS = 1_000_000
_MOST_FLAWS = 5


class BadArguments(ValueError):
    """They cannot be used; the message tells the model what to mend."""


def parse(tool: Tool, written: str) -> dict[str, JsonValue]:
    """Return the arguments. Raises `BadArguments`."""
    if len(written) > MAX_CHARACTERS:
        raise BadArguments(f"The arguments are longer than {MAX_CHARACTERS} characters.")
    try:
        found: object = json.loads(written or "{}")
    except (ValueError, RecursionError):
        raise BadArguments("The arguments are not valid JSON.") from None
    if not isinstance(found, dict):
        raise BadArguments("The arguments must be a JSON object.")
    arguments = cast("dict[str, JsonValue]", found)
    check(tool, arguments)
    return arguments


def check(tool: Tool, arguments: dict[str, JsonValue]) -> None:
    """Raise `BadArguments` where they do not fit the schema or hold what cannot be stored."""
    if "\\u0000" in json.dumps(arguments):
        raise BadArguments("The arguments hold a NUL character.")
    flaws = _flaws(json.dumps(tool.parameters), arguments)
    if flaws:
        raise BadArguments("The arguments do not fit: " + "; ".join(flaws[:_MOST_FLAWS]))


def _flaws(parameters: str, arguments: dict[str, JsonValue]) -> list[str]:
    found: list[str] = []
    errors = _validator(parameters).iter_errors(arguments)  # pyright: ignore[reportUnknownMemberType] -- untyped upstream
    for flaw in errors:
        place = ".".join(str(part) for part in flaw.absolute_path) or "arguments"
        found.append(f"{place}: {flaw.message[:200]}")
    return found


@lru_cache(maxsize=512)
def _validator(parameters: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(parameters))
