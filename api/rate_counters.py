"""Counting requests: in this process, or in Redis/Valkey for all processes together.

slowapi's limiter is the fixed window both count by. Its own default storage starts a thread for
nearly every hit and is only good for one thread at a time, so that `PlainMemory` stands in.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple, Protocol, cast

from limits import RateLimitItem
from limits.aio.storage import Storage as AsyncStorage
from limits.storage import Storage, storage_from_string
from slowapi import Limiter

from conclave.logging import get_logger

REDIS_SECONDS = 0.25
"""A request waits no longer for a count than this."""
RETRY_SECONDS = 5.0
_CONNECTIONS = 50
_SCHEME = "conclave+memory"
_SWEEP_SECONDS = 10.0
_MOST_KEYS = 100_000
_MOST_OVER = 10_000
_log = get_logger(__name__)


class Count(NamedTuple):
    """What a hit found: whether it is within the limit, what is left, when the window ends."""

    is_within: bool
    remaining: int
    reset: float
    """Unix seconds."""


class Counters(Protocol):
    """Counts hits."""

    async def hit(self, item: RateLimitItem, *names: str) -> Count:
        """Count one. Never raises for a store that is away."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class PlainMemory(Storage):
    """limits' storage for one event loop: no threads, no locks, bounded."""

    STORAGE_SCHEME = [_SCHEME]

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **_: str) -> None:
        super().__init__(uri, wrap_exceptions)
        self._counts: dict[str, tuple[int, float]] = {}
        self._swept = 0.0

    @property
    def base_exceptions(self) -> type[Exception]:
        """What a failing store raises: this one does not."""
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a key's count; its window begins with its first hit."""
        now = time.time()
        count, end = self._counts.get(key, (0, 0.0))
        if end <= now:
            self._sweep(now)
            count, end = 0, now + expiry
        self._counts[key] = count + amount, end
        return count + amount

    def get(self, key: str) -> int:
        """Return a key's count."""
        count, end = self._counts.get(key, (0, 0.0))
        return count if end > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """Return when a key's window ends."""
        return self._counts.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        """Whether the store is there."""
        return True

    def reset(self) -> int | None:
        """Forget everything."""
        self._counts.clear()
        return None

    def clear(self, key: str) -> None:
        """Forget a key."""
        self._counts.pop(key, None)

    def _sweep(self, now: float) -> None:
        """Forget what is over; where too much is left, those that began first."""
        if now - self._swept >= _SWEEP_SECONDS or len(self._counts) >= _MOST_KEYS:
            self._swept = now
            self._counts = {key: held for key, held in self._counts.items() if held[1] > now}
            for key in list(self._counts)[: max(0, len(self._counts) - _MOST_KEYS * 9 // 10)]:
                del self._counts[key]


class MemoryCounters:
    """`Counters` of this process."""

    def __init__(self) -> None:
        self._limiter = Limiter(key_func=_unused, storage_uri=f"{_SCHEME}://").limiter

    async def hit(self, item: RateLimitItem, *names: str) -> Count:
        """Count one, without a turn of the event loop."""
        is_within = self._limiter.hit(item, *names)
        reset, remaining = self._limiter.get_window_stats(item, *names)
        return Count(is_within, int(remaining), float(reset))

    async def close(self) -> None:
        """Nothing is open."""


class RedisCounters:
    """`Counters` that several processes share; each counts for itself while Redis is away."""

    def __init__(self, url: str) -> None:
        storage = storage_from_string(
            _async_url(url),
            implementation="redispy",
            key_prefix="conclave:limits",
            socket_connect_timeout=REDIS_SECONDS,
            socket_timeout=REDIS_SECONDS,
            max_connections=_CONNECTIONS,
        )
        assert isinstance(storage, AsyncStorage)
        self._storage = storage
        self._fallback = MemoryCounters()
        self._away_until: float | None = None
        self._over: dict[str, float] = {}
        """Keys whose window is used up, and its end: nothing is asked about them before."""

    async def hit(self, item: RateLimitItem, *names: str) -> Count:
        """Count one in Redis, else here."""
        over_until = self._over.get(item.key_for(*names), 0.0)
        if over_until > time.time():
            return Count(False, 0, over_until)
        away_until = self._away_until
        if away_until is not None:
            if time.monotonic() < away_until:
                return await self._fallback.hit(item, *names)
            self._away_until = time.monotonic() + RETRY_SECONDS  # one tries, the others go on
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                count = await self._count(item, *names)
        except Exception as error:  # whatever a store does, requests are served
            self._note_absence(error)
            return await self._fallback.hit(item, *names)
        if away_until is not None:
            _log.info("rate_limits_shared_again")
            self._away_until = None
        return count

    async def _count(self, item: RateLimitItem, *names: str) -> Count:
        """The fixed window's own steps, in two round trips instead of three."""
        key = item.key_for(*names)
        hits = await self._storage.incr(key, item.get_expiry())
        reset = await self._storage.get_expiry(key)
        if hits > item.amount:
            if len(self._over) >= _MOST_OVER:
                self._over.clear()
            self._over[key] = reset
        return Count(hits <= item.amount, max(0, item.amount - hits), reset)

    def _note_absence(self, error: Exception) -> None:
        if self._away_until is None:
            _log.warning("rate_limits_not_shared", error=f"{type(error).__name__}: {error}")
        self._away_until = time.monotonic() + RETRY_SECONDS

    async def close(self) -> None:
        """Close the connections."""
        client: object = getattr(getattr(self._storage, "bridge", None), "storage", None)
        if client is not None:
            await cast(_Closable, client).aclose()


class _Closable(Protocol):
    async def aclose(self) -> None: ...


def _unused() -> str:
    raise AssertionError("slowapi's own keys are not used")


def _async_url(url: str) -> str:
    """Return REDIS_URL as limits names its stores; Valkey speaks the same protocol."""
    scheme, separator, rest = url.partition("://")
    plain = {"valkey": "redis", "valkeys": "rediss", "unix": "redis+unix"}.get(scheme, scheme)
    return f"async+{plain}{separator}{rest}"
