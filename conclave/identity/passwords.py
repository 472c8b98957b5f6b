"""Password hashes: Argon2id, computed in threads of their own and never on the event loop."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from conclave.identity.errors import HashingBusy

MAX_PASSWORD = 128
_MAX_WAITING = 64
_MAX_THREADS = 4
_HASH_BYTES = 32
_SALT_BYTES = 16
_ARGON2_VERSION = 19
T = TypeVar("T")


@dataclass(frozen=True)
class Argon2Cost:
    """What one hash costs; the default is RFC 9106's for machines with little memory."""

    time_cost: int = 3
    memory_kib: int = 65_536
    parallelism: int = 4


class PasswordHasher:
    """Hashes and checks. Memory is bounded by the threads, the queue by `HashingBusy`."""

    def __init__(self, cost: Argon2Cost | None = None) -> None:
        cost = cost or Argon2Cost()
        self._argon2 = argon2.PasswordHasher(
            cost.time_cost, cost.memory_kib, cost.parallelism, _HASH_BYTES, _SALT_BYTES
        )
        self._nobody = _unmatchable(cost)
        self._threads = ThreadPoolExecutor(
            min(_MAX_THREADS, os.cpu_count() or 1), thread_name_prefix="argon2"
        )
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return a salted hash. Raises `HashingBusy`."""
        return await self._run(lambda: self._argon2.hash(_normal(password)))

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether this is the password; None costs the same work and never matches.

        Raises `HashingBusy`.
        """
        found = await self._run(lambda: self._verify(password, hashed or self._nobody))
        return found and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Whether the hash was made at another cost than the present one."""
        return self._argon2.check_needs_rehash(hashed)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, hashed: str) -> bool:
        try:
            return self._argon2.verify(hashed, _normal(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _MAX_WAITING:
            raise HashingBusy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _normal(password: str) -> bytes:
    """Keyboards differ in how they compose letters; the password is the same."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _unmatchable(cost: Argon2Cost) -> str:
    """Return a hash at this cost that nobody knows a password for."""
    salt, digest = (
        b64encode(os.urandom(size)).decode().rstrip("=") for size in (_SALT_BYTES, _HASH_BYTES)
    )
    parameters = f"m={cost.memory_kib},t={cost.time_cost},p={cost.parallelism}"
    return f"$argon2id$v={_ARGON2_VERSION}${parameters}${salt}${digest}"
