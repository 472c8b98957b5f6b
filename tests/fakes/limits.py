"""A limiter for tests of something else: they send more than any budget holds."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

from api.access import Rule


class Uncounted:
    """A `Limiter` that lets everything through."""

    async def check(
        self, scope: Scope, rule: Rule, caller_key: str | None, address: str
    ) -> Mapping[str, str]:
        return {}
