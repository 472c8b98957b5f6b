"""`{{event.x}}` in what an action is given: replaced by what made the trigger fire.

What is put in is data: it is not read for templates again, and nothing but fields can be named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import quote

from pydantic import JsonValue

_FIELD = re.compile(r"\{\{\s*event((?:\.[A-Za-z0-9_\-]{1,128}){0,20})\s*\}\}")


def look_up(data: JsonValue, path: str) -> JsonValue:
    """Return the value at a dotted path, a list's by its number; None where there is none."""
    found = data
    for name in path.split("."):
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def fill(text: str, event: Mapping[str, JsonValue]) -> str:
    """Return the text with its fields put in; what is not there is empty."""
    return _FIELD.sub(lambda found: _text(_value(found, event)), text)


def fill_url(text: str, event: Mapping[str, JsonValue]) -> str:
    """Return a URL with its fields put in, escaped, but for one that stands at its very start."""

    def put(found: re.Match[str]) -> str:
        value = _text(_value(found, event))
        return value if found.start() == 0 else quote(value, safe="")

    return _FIELD.sub(put, text)


def fill_all(value: JsonValue, event: Mapping[str, JsonValue]) -> JsonValue:
    """Return JSON with the fields of all its texts put in.

    A text that is nothing but one field becomes that field's value, whatever it is.
    """
    if isinstance(value, str):
        alone = _FIELD.fullmatch(value)
        return fill(value, event) if alone is None else _value(alone, event)
    if isinstance(value, dict):
        return {key: fill_all(inner, event) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill_all(inner, event) for inner in value]
    return value


def _value(found: re.Match[str], event: Mapping[str, JsonValue]) -> JsonValue:
    path = found[1].removeprefix(".")
    return look_up(dict(event), path) if path else dict(event)


def _text(value: JsonValue) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
