"""The gateway dialect: chats and what governs them, errors as {"detail"}."""

from __future__ import annotations

from pydantic import JsonValue

from api.dialect import Dialect, Problem


def render(problem: Problem) -> JsonValue:
    """Render a sentence, or what is wrong with which field."""
    if not problem.flaws:
        return {"detail": problem.message}
    return {
        "detail": [
            {"loc": list(flaw.loc), "msg": flaw.msg, "type": flaw.type} for flaw in problem.flaws
        ]
    }


GATEWAY = Dialect(
    name="gateway",
    prefixes=(
        "/api/chats",
        "/api/profiles",
        "/api/permissions",
        "/api/config",
        "/api/sandbox",
        "/api/panic",
    ),
    render=render,
)
