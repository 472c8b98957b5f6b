"""Rate limits: how many requests a caller has, judged before anybody asks who it is.

Each tier is one budget a caller for all routes of the tier together, as slowapi's shared limits
are; of /api/v1/auth, login, registration, refresh and MFA have one each. Strict budgets belong to
the address, whatever token is sent; the others to the principal that is recognised without a
query, else to the address, so that a flood of made-up credentials counts against where it comes
from. Nothing here asks the database.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Protocol

from limits import RateLimitItem, RateLimitItemPerMinute, parse
from starlette.types import Scope

from api.errors import RateLimited
from api.rate_counters import Counters, MemoryCounters, RedisCounters
from conclave.settings import AuthMode, Settings
from schema.domain.security import RateLimitPolicy, SecurityConfig

CONTRACT = {
    "strict": "10/minute",
    "standard": "60/minute",
    "relaxed": "200/minute",
    "bulk": "30/minute",
}
STRICT = "strict"
PLATFORM = "platform"
NONE = "none"
OFF = "off"
_DEFAULTS = RateLimitPolicy()
_AUTH = "/api/v1/auth/"
_AUTH_BUDGETS = {"login": "login", "register": "register", "refresh": "refresh"}

Policy = Callable[[Scope], SecurityConfig]


class LimitedRule(Protocol):
    """What is asked of a route's rule."""

    @property
    def tier(self) -> str:
        """One of strict, standard, relaxed, bulk, platform, none."""
        ...


def policy_in_force(scope: Scope) -> SecurityConfig:
    """Return the security settings as last read; the defaults before there is a core."""
    core = getattr(scope["app"].state, "core", None)
    if core is None:
        return SecurityConfig()
    config: object = core.security.last_known()
    assert isinstance(config, SecurityConfig)
    return config


class RateLimits:
    """Counts requests and refuses those that are too many.

    A tier holds with what RATE_LIMIT_... says, or is off by it; unset, it holds as the contract has
    it under AUTH_MODE=required and is off under local. What an administrator stored in place of a
    default of `rate_limit` in the security settings goes before all that, in both modes.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        policy: Policy = policy_in_force,
        counters: Counters | None = None,
    ) -> None:
        self._is_required = settings.auth_mode is AuthMode.REQUIRED
        self._tiers = {tier: self._item_of(settings, tier) for tier in CONTRACT}
        self._policy = policy
        self._counters = counters or _counters(settings)

    async def check(
        self, scope: Scope, rule: LimitedRule, caller_key: str | None, address: str
    ) -> Mapping[str, str]:
        """Count a request and return the X-RateLimit headers of its answer.

        Returns none where no limit holds. Raises `RateLimited`, which carries them too.
        """
        budget = self._budget(scope, rule.tier, caller_key, address)
        if budget is None:
            return {}
        item, *names = budget
        count = await self._counters.hit(item, *names)
        headers = {
            "X-RateLimit-Limit": str(item.amount),
            "X-RateLimit-Remaining": str(count.remaining),
            "X-RateLimit-Reset": str(math.ceil(count.reset)),
        }
        if not count.is_within:
            wait = max(1, math.ceil(count.reset - time.time()))
            raise RateLimited(f"Too many requests: try again in {wait} s", wait, headers)
        return headers

    async def close(self) -> None:
        """Let go of connections."""
        await self._counters.close()

    def _budget(
        self, scope: Scope, tier: str, caller_key: str | None, address: str
    ) -> tuple[RateLimitItem, str, str] | None:
        """Return the limit, the name of what is limited and who is; None where nothing is."""
        if tier == NONE:
            return None
        if tier == PLATFORM:
            item = self._platform_item(scope, is_known=caller_key is not None)
            name, who = tier, caller_key or _whereabouts(address)
        elif tier == STRICT:
            name, item = self._strict(scope)
            who = _whereabouts(address)
        else:
            name, who, item = tier, caller_key or _whereabouts(address), self._tiers[tier]
        return None if item is None else (item, name, who)

    def _platform_item(self, scope: Scope, *, is_known: bool) -> RateLimitItem | None:
        stored = self._policy(scope).rate_limit
        if is_known:
            amount, default = stored.per_user_per_minute, _DEFAULTS.per_user_per_minute
        else:
            amount, default = stored.per_ip_per_minute, _DEFAULTS.per_ip_per_minute
        return _per_minute(amount) if self._is_required or amount != default else None

    def _strict(self, scope: Scope) -> tuple[str, RateLimitItem | None]:
        path: str = scope["path"].rstrip("/")
        if not path.startswith(_AUTH):
            return STRICT, self._tiers[STRICT]
        name = _AUTH_BUDGETS.get(path.removeprefix(_AUTH), "mfa")
        stored = self._policy(scope).rate_limit
        if name == "register":
            amount, default = stored.register_per_minute, _DEFAULTS.register_per_minute
        else:
            amount, default = stored.login_per_minute, _DEFAULTS.login_per_minute
        return name, _per_minute(amount) if amount != default else self._tiers[STRICT]

    def _item_of(self, settings: Settings, tier: str) -> RateLimitItem | None:
        text: str | None = getattr(settings, f"rate_limit_{tier}")
        if text is None:
            text = CONTRACT[tier] if self._is_required else OFF
        return None if text == OFF else parse(text)


def _counters(settings: Settings) -> Counters:
    if settings.redis_url is None:
        return MemoryCounters()
    return RedisCounters(settings.redis_url.get_secret_value())


@lru_cache(maxsize=64)
def _per_minute(amount: int) -> RateLimitItem:
    return RateLimitItemPerMinute(amount)


@lru_cache(maxsize=4096)
def _whereabouts(address: str) -> str:
    """Return the name of an address; a household's IPv6 network is one: it has 2^64 of them."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return f"address:{address}"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return f"address:{parsed.ipv4_mapped}"
        return f"address:{IPv6Network((int(parsed), 64), strict=False)}"
    return f"address:{parsed}"
