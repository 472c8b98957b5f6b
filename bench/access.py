"""What access costs: knowing who asks, and refusing who asks too often.

Three APIs over the product's own database, started beside it: one admits anybody on loopback, the
others ask for credentials, and one of them limits its routes. The credentials are the access
token of somebody who registered and signed in: what a person's request costs. Requests are
interleaved, so that what disturbs one disturbs all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from bench.product import ROOT, Bench, free_port
from bench.turns import RUNS

_ACCOUNT = {"email": "ada@example.org", "password": "Correct-Horse-7!"}
_EACH = 200
_WARM_UP = 50
_START_SECONDS = 60
PATH = "/agents"


_Arm = tuple[list[float], str, Mapping[str, str], int]
"""Where the medians go, what is asked, with which headers, and the status it must have."""


@dataclass
class Access:
    """Seconds of one GET /agents each, the median of each run."""

    anonymous: list[float] = field(default_factory=list[float])
    authenticated: list[float] = field(default_factory=list[float])
    served: list[float] = field(default_factory=list[float])
    refused: list[float] = field(default_factory=list[float])

    @property
    def added(self) -> float:
        """What knowing the caller adds, in seconds: the median difference of the runs."""
        pairs = zip(self.authenticated, self.anonymous, strict=True)
        return statistics.median(one - other for one, other in pairs)

    @property
    def share(self) -> float:
        """A refused request's part of a served one's time."""
        pairs = zip(self.refused, self.served, strict=True)
        return statistics.median(one / other for one, other in pairs)


async def access(bench: Bench) -> Access:
    """Measure. The API that refuses has a limit of one a day, used up before."""
    environment = {**os.environ, **bench.environment, "LOG_LEVEL": "WARNING"}
    required = {"AUTH_MODE": "required", "RATE_LIMIT_STANDARD": "off"}
    found = Access()
    async with (
        _api(environment, {"AUTH_MODE": "local"}) as anonymous,
        _api(environment, {**required, "RATE_LIMIT_RELAXED": "off"}) as authenticated,
        _api(environment, {**required, "RATE_LIMIT_RELAXED": "1/day"}) as limited,
    ):
        token = {"Authorization": f"Bearer {await _sign_in(bench.http, authenticated)}"}
        arms: list[_Arm] = [
            (found.anonymous, anonymous + PATH, {}, 200),
            (found.authenticated, authenticated + PATH, token, 200),
            (found.served, authenticated + PATH, token, 200),
            (found.refused, limited + PATH, token, 429),
        ]
        await _get(bench.http, limited + PATH, token)
        for _, url, headers, status in arms:
            for _ in range(_WARM_UP):
                await _expect(bench.http, url, headers, status)
        for _ in range(RUNS):
            times: list[list[float]] = [[] for _ in arms]
            for _ in range(_EACH):
                for taken, (_, url, headers, status) in zip(times, arms, strict=True):
                    taken.append(await _expect(bench.http, url, headers, status))
            for taken, (medians, *_) in zip(times, arms, strict=True):
                medians.append(statistics.median(taken))
    return found


async def _sign_in(http: aiohttp.ClientSession, api: str) -> str:
    """Register the first user, who may, and return an access token."""
    answer: dict[str, str] = {}
    for path in ("register", "login"):
        async with http.post(f"{api}/api/v1/auth/{path}", json=_ACCOUNT) as response:
            answer = await response.json()
            if response.status >= 300:
                raise RuntimeError(f"POST /api/v1/auth/{path}: {response.status} {answer}")
    return answer["access_token"]


async def _expect(
    http: aiohttp.ClientSession, url: str, headers: Mapping[str, str], expected: int
) -> float:
    begun = time.perf_counter()
    status = await _get(http, url, headers)
    taken = time.perf_counter() - begun
    if status != expected:
        raise RuntimeError(f"GET {url}: {status} instead of {expected}")
    return taken


async def _get(http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> int:
    async with http.get(url, headers=headers) as response:
        await response.read()
        return response.status


@asynccontextmanager
async def _api(common: Mapping[str, str], own: Mapping[str, str]) -> AsyncGenerator[str]:
    """Run an API of its own until the block ends; yield its address."""
    port = free_port()
    environment = {**common, **own, "API_HOST": "127.0.0.1", "API_PORT": str(port)}
    with _start(environment) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            await _answers(url + "/health")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def _start(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "conclave.cli", "api"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


async def _answers(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline:
            try:
                if await _get(http, url, {}) == 200:
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    raise RuntimeError(f"{url} did not answer within {_START_SECONDS} s")
