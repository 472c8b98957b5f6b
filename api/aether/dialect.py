"""The Aether dialect: /api outside of what others own, and /webhook; errors as {"error"}."""

from __future__ import annotations

from pydantic import JsonValue

from api.dialect import Dialect, Flaw, Problem

_MOST_FLAWS = 5


def _sentence(flaw: Flaw) -> str:
    """Return `name: Field required`, without saying that it stood in the body."""
    place = flaw.loc[1:] if flaw.loc and flaw.loc[0] in {"body", "query", "path"} else flaw.loc
    return f"{'.'.join(str(part) for part in place) or 'body'}: {flaw.msg}"


def render(problem: Problem) -> JsonValue:
    """Render one sentence, naming each field that does not fit and why."""
    if not problem.flaws:
        return {"error": problem.message}
    sentences = [_sentence(flaw) for flaw in problem.flaws[:_MOST_FLAWS]]
    if len(problem.flaws) > _MOST_FLAWS:
        sentences.append(f"and {len(problem.flaws) - _MOST_FLAWS} more")
    return {"error": "; ".join(sentences)}


AETHER = Dialect(name="aether", prefixes=("/api", "/webhook"), render=render, invalid_status=400)
"""Its prefix holds /api/v1 and the gateway's paths too: it stands after their dialects."""
