"""Templates: `{{input.x}}` and `{{steps.<id>.output.y}}` in the strings of a step's config.

A path is looked up, never evaluated, and what stands there is not looked at again: a result that
holds braces stays as it is. What is not there is an empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import JsonValue

from conclave.pipelines.conditions import find

_HOLE = re.compile(r"\{\{\s*([^\s{}]+)\s*\}\}")
_STEP = re.compile(r"\bsteps\.(\d{1,19})\b")


def fill_text(text: str, context: Mapping[str, JsonValue]) -> str:
    """Return a text with its templates filled; what is no text is written as JSON."""
    return _HOLE.sub(lambda hole: _written(find(context, hole[1]).value), text)


def fill(value: JsonValue, context: Mapping[str, JsonValue]) -> JsonValue:
    """Return a value with the templates in its strings filled.

    A string that is one template and nothing else becomes the value itself, of its own type.
    """
    if isinstance(value, str):
        whole = _HOLE.fullmatch(value.strip())
        return find(context, whole[1]).value if whole else fill_text(value, context)
    if isinstance(value, list):
        return [fill(item, context) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, context) for key, item in value.items()}
    return value


def steps_named(config: Mapping[str, JsonValue]) -> set[int]:
    """Return the ids of the steps that conditions and templates in a config may look at."""
    return {int(step_id) for step_id in _STEP.findall(json.dumps(config))}


def _written(value: JsonValue) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
