"""The gathering dialect: the root paths, errors as {"detail"}."""

from __future__ import annotations

from pydantic import JsonValue

from api.dialect import Dialect, Flaw, Problem


def _flaw(flaw: Flaw) -> JsonValue:
    missing = flaw.type == "missing"
    return {
        "loc": list(flaw.loc),
        "msg": "field required" if missing else flaw.msg,
        "type": "value_error.missing" if missing else flaw.type,
    }


def render(problem: Problem) -> JsonValue:
    """Render a sentence, or the list of what is wrong with the request."""
    if problem.flaws:
        return {"detail": [_flaw(flaw) for flaw in problem.flaws]}
    return {"detail": problem.message}


GATHERING = Dialect(
    name="gathering",
    prefixes=(
        "/agents",
        "/circles",
        "/conversations",
        "/workspace",
        "/memory",
        "/dashboard",
        "/settings",
        "/tools",
        "/health",
    ),
    render=render,
)
