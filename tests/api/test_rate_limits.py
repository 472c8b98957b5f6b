"""Rate limits: which budget a request counts against, what is answered, and what it costs."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import httpx
import pytest
from fastapi import FastAPI
from limits import parse
from pydantic import SecretStr, ValidationError
from sqlalchemy import event
from starlette.types import Scope
from structlog.testing import capture_logs

from api.app import create_app
from api.errors import RateLimited, problem_of
from api.rate_counters import PlainMemory, RedisCounters
from api.rate_limits import RateLimits
from conclave.container import Core
from conclave.db import Database
from conclave.settings import AuthMode, Settings
from schema.domain.security import RateLimitPolicy, SecurityConfig
from tests.waiting import until

HERE = "192.0.2.7"
START = 1_800_000_000.25


@dataclass(frozen=True)
class Rule:
    tier: str


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def scope(path: str = "/agents") -> Scope:
    return {"type": "http", "method": "GET", "path": path}


def build(
    mode: AuthMode = AuthMode.REQUIRED,
    stored: Mapping[str, int] | None = None,
    **settings: object,
) -> RateLimits:
    config = SecurityConfig(rate_limit=RateLimitPolicy.model_validate(stored or {}))
    given = Settings.model_validate({"auth_mode": mode, "redis_url": None, **settings})
    return RateLimits(given, policy=lambda _: config)


async def ask(
    limits: RateLimits,
    tier: str,
    who: str | None = "user:1",
    address: str = HERE,
    path: str = "/agents",
) -> Mapping[str, str]:
    return await limits.check(scope(path), Rule(tier), who, address)


async def budget(
    limits: RateLimits,
    tier: str,
    who: str | None = "user:1",
    address: str = HERE,
    path: str = "/agents",
    most: int = 400,
) -> int | None:
    """How many requests are let through; None where nothing is limited."""
    for count in range(most):
        try:
            if not await ask(limits, tier, who, address, path):
                return None
        except RateLimited:
            return count
    raise AssertionError(f"more than {most}")


@pytest.mark.parametrize(
    ("tier", "path", "who", "expected"),
    [
        ("strict", "/login", "user:1", 10),
        ("standard", "/agents", "user:1", 60),
        ("relaxed", "/agents", "user:1", 200),
        ("bulk", "/agents", "user:1", 30),
        ("platform", "/api/v1/agents", "user:1", 300),
        ("platform", "/api/v1/agents", None, 120),
        ("strict", "/api/v1/auth/login", None, 10),
        ("strict", "/api/v1/auth/register", None, 10),
        ("strict", "/api/v1/auth/refresh", None, 10),
        ("strict", "/api/v1/auth/mfa/verify", None, 10),
        ("none", "/health", None, None),
    ],
)
async def test_the_contracts_tiers_hold_under_required_and_are_off_under_local(
    clock: Clock, tier: str, path: str, who: str | None, expected: int | None
):
    assert await budget(build(), tier, who, path=path) == expected
    assert await budget(build(AuthMode.LOCAL), tier, who, path=path) is None


async def test_a_setting_holds_in_both_modes_and_off_turns_a_tier_off(clock: Clock):
    for mode in AuthMode:
        limits = build(mode, rate_limit_relaxed="3/minute", rate_limit_standard="OFF")
        assert await budget(limits, "relaxed") == 3
        assert await budget(limits, "standard") is None
    assert await budget(build(rate_limit_strict="off"), "strict", path="/api/v1/auth/login") is None
    assert await budget(build(rate_limit_bulk=""), "bulk") == 30


@pytest.mark.parametrize(
    "text", ["many", "0/minute", "-1/minute", "5", "5/fortnight", "5/minute;9"]
)
def test_a_setting_that_cannot_be_read_is_refused_at_start(text: str):
    with pytest.raises(ValidationError, match=r"such as 60/minute, or .off."):
        Settings.model_validate({"rate_limit_strict": text})


@pytest.mark.parametrize("text", ["7/second", "7/2 minutes", "7/hour", "7/day"])
def test_every_setting_that_is_taken_can_be_counted_by(text: str):
    settings = Settings.model_validate({"rate_limit_strict": text})
    assert parse(str(settings.rate_limit_strict)).amount == 7
    RateLimits(settings)


@pytest.mark.parametrize("mode", list(AuthMode))
async def test_what_an_administrator_stored_holds_in_both_modes(clock: Clock, mode: AuthMode):
    stored = {
        "per_user_per_minute": 5,
        "per_ip_per_minute": 4,
        "login_per_minute": 3,
        "register_per_minute": 2,
    }
    limits = build(mode, stored, rate_limit_strict="7/minute")

    assert await budget(limits, "platform") == 5
    assert await budget(limits, "platform", None) == 4
    assert await budget(limits, "strict", path="/api/v1/auth/login/") == 3
    assert await budget(limits, "strict", path="/api/v1/auth/refresh") == 3
    assert await budget(limits, "strict", path="/api/v1/auth/register") == 2
    assert await budget(limits, "strict", path="/login") == 7


async def test_a_tier_is_one_budget_for_its_routes_and_each_caller_has_an_own(clock: Clock):
    limits = build(rate_limit_relaxed="4/minute")

    assert await budget(limits, "relaxed", path="/agents") == 4
    assert await budget(limits, "relaxed", path="/circles") == 0
    assert await budget(limits, "relaxed", "api_key:1") == 4
    assert await budget(limits, "relaxed", None) == 4
    assert await budget(limits, "relaxed", None, "192.0.2.8") == 4
    assert await budget(limits, "standard") == 60


async def test_login_is_counted_by_address_whatever_token_is_sent(clock: Clock):
    limits = build()
    path = "/api/v1/auth/login"

    for number in range(10):
        await ask(limits, "strict", f"user:{number}", path=path)

    for who in ("user:1", "user:99", None):
        with pytest.raises(RateLimited):
            await ask(limits, "strict", who, path=path)
    assert await budget(limits, "strict", None, "192.0.2.8", path) == 10
    assert await budget(limits, "strict", None, HERE, "/api/v1/auth/register") == 10


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
async def test_addresses_of_one_household_share_a_budget(clock: Clock, one: str, other: str):
    limits = build(rate_limit_relaxed="2/minute")

    assert await budget(limits, "relaxed", None, one) == 2
    assert await budget(limits, "relaxed", None, other) == 0
    assert await budget(limits, "relaxed", None, "2001:db8:0:1::1") == 2


async def test_headers_are_whole_numbers_and_the_window_ends_when_they_say(clock: Clock):
    limits = build(rate_limit_bulk="2/minute")

    first = await ask(limits, "bulk")
    assert first == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": str(int(START) + 61),
    }
    clock.now += 30
    await ask(limits, "bulk")
    with pytest.raises(RateLimited) as caught:
        await ask(limits, "bulk")
    problem = problem_of(caught.value)
    assert problem.status == 429
    assert problem.headers == {
        **first,
        "X-RateLimit-Remaining": "0",
        "Retry-After": "30",
    }
    clock.now = START + 59.9
    with pytest.raises(RateLimited):
        await ask(limits, "bulk")
    clock.now = START + 60
    assert (await ask(limits, "bulk"))["X-RateLimit-Remaining"] == "1"


def test_what_is_over_is_forgotten(clock: Clock):
    store = PlainMemory()
    for number in range(100):
        store.incr(f"k{number}", 60)
    clock.now += 61
    store.incr("new", 60)
    assert len(store._counts) == 1


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.rate_counters._MOST_KEYS", 50)
    store = PlainMemory()
    for number in range(1000):
        store.incr(f"k{number}", 60)
    assert len(store._counts) <= 50
    assert store.get("k999") == 1


@contextmanager
def queries_of(core: Core) -> Generator[list[object]]:
    """What the database is asked meanwhile, connections included."""
    engines = (core.db.engine.sync_engine, core.db.aside_engine.sync_engine)
    asked: list[object] = []

    def note(*given: object) -> None:
        asked.append(given)

    watched = list(product(engines, ("before_cursor_execute", "checkout")))
    for engine, kind in watched:
        event.listen(engine, kind, note)
    yield asked
    for engine, kind in watched:
        event.remove(engine, kind, note)


async def test_a_refused_request_asks_the_database_nothing(
    api_settings: Settings, core: Core, clean_database: Database
):
    """Over the whole application, whoever asks: a user, somebody made up, nobody."""
    limits = {"rate_limit_relaxed": "1/minute", "rate_limit_strict": "2/minute"}
    settings = api_settings.model_copy(update={"auth_mode": AuthMode.REQUIRED, **limits})
    account = {"email": "ada@example.org", "password": "Correct-Horse-7!"}
    transport = httpx.ASGITransport(app=create_app(settings, core))
    async with httpx.AsyncClient(transport=transport, base_url="https://c.example") as one:
        await one.post("/api/v1/auth/register", json=account)
        token = (await one.post("/api/v1/auth/login", json=account)).json()["access_token"]
        await one.post("/api/v1/auth/login", json=account)
        user = {"Authorization": f"Bearer {token}"}
        made_up = {"Authorization": "Bearer conclave_made-up"}
        with queries_of(core) as asked:
            assert (await one.get("/agents", headers=user)).status_code == 200
            assert (await one.get("/agents", headers=made_up)).status_code == 401
            assert asked
            asked.clear()
            refused = [await one.get("/agents", headers=who) for who in (user, made_up, {})]
            refused_there = await one.post("/api/v1/auth/login", json=account)
        assert not asked
    for answer in (*refused, refused_there):
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) in range(1, 61)
        assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert list(refused[0].json()) == ["detail"]
    assert refused_there.json()["error_code"] == "RATE_001"


async def test_the_settings_of_the_running_core_are_asked(app: FastAPI, core: object):
    class Policy:
        def last_known(self) -> SecurityConfig:
            return SecurityConfig(rate_limit=RateLimitPolicy(per_ip_per_minute=1))

    @dataclass
    class FakeCore:
        security: Policy

    fake = FastAPI()
    limits = RateLimits(Settings(auth_mode=AuthMode.LOCAL))
    asked = {**scope(), "app": fake}
    assert await limits.check(asked, Rule("platform"), None, HERE) == {}
    fake.state.core = FakeCore(Policy())
    await limits.check(asked, Rule("platform"), None, HERE)
    with pytest.raises(RateLimited):
        await limits.check(asked, Rule("platform"), None, HERE)


# On Redis.


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running_redis(port: int) -> Generator[None]:
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    port = free_port()
    with running_redis(port):
        yield port


async def shared(counters: RedisCounters, name: str) -> bool:
    """Whether a hit was counted in Redis: nobody is away."""
    await counters.hit(parse("1000/minute"), "ping", name)
    return counters._away_until is None


async def connected(port: int) -> RedisCounters:
    counters = RedisCounters(f"redis://127.0.0.1:{port}/0")

    async def answers() -> bool:
        counters._away_until = None
        return await shared(counters, "start")

    await until(answers, what="Redis")
    return counters


async def test_processes_share_their_counts_in_redis(redis_port: int):
    one, other = await connected(redis_port), await connected(redis_port)
    item = parse("3/minute")
    before = time.time()

    found = [await each.hit(item, "shared", "x") for each in (one, other, one, other)]

    assert [count.is_within for count in found] == [True, True, True, False]
    assert [count.remaining for count in found] == [2, 1, 0, 0]
    assert before + 57 <= found[-1].reset <= time.time() + 61
    assert (await one.hit(item, "shared", "y")).is_within
    await one.close()
    await other.close()


async def test_a_window_that_is_used_up_is_not_asked_about_again(
    redis_port: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    one = await connected(redis_port)
    item = parse("1/minute")
    found = [await one.hit(item, "over", "x") for _ in range(2)]
    assert [count.is_within for count in found] == [True, False]

    async def fail(*_: object) -> int:
        raise AssertionError("asked")

    with monkeypatch.context() as patch:
        patch.setattr(one._storage, "incr", fail)
        assert await one.hit(item, "over", "x") == found[1]
        assert one._away_until is None
    clock.now = found[1].reset
    await one.hit(item, "over", "x")
    assert one._away_until is None
    await one.close()


async def test_many_at_once_are_counted_exactly(redis_port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.rate_counters.REDIS_SECONDS", 30.0)  # a slow machine is no absence
    one, other = await connected(redis_port), await connected(redis_port)
    item = parse("30/day")  # no window ends while this runs

    found = await asyncio.gather(
        *(each.hit(item, "many", "x") for _ in range(40) for each in (one, other))
    )

    assert sum(count.is_within for count in found) == 30
    await one.close()
    await other.close()


@pytest.mark.parametrize("url", ["valkey://127.0.0.1:{}/0", "redis://:x@127.0.0.1:{}/1"])
async def test_every_usual_url_is_taken(redis_port: int, url: str):
    counters = RedisCounters(url.format(redis_port))
    assert (await counters.hit(parse("3/minute"), "url", url)).remaining == 2
    await counters.close()


async def test_without_redis_each_process_counts_for_itself_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("api.rate_counters.RETRY_SECONDS", 0.0)
    port = free_port()
    counters = RedisCounters(f"redis://127.0.0.1:{port}/0")
    item = parse("2/minute")

    with capture_logs() as logs:
        found = [(await counters.hit(item, "away", "x")).is_within for _ in range(4)]

    assert found == [True, True, False, False]
    assert [entry["event"] for entry in logs] == ["rate_limits_not_shared"]
    with running_redis(port), capture_logs() as logs:
        await until(lambda: shared(counters, "back"), what="Redis to be noticed")
        assert [entry["event"] for entry in logs] == ["rate_limits_shared_again"]
    await counters.close()


async def test_a_redis_that_hangs_holds_up_one_request_for_a_moment_only():
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    counters = RedisCounters(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    begun = time.monotonic()
    assert (await counters.hit(parse("2/minute"), "slow", "x")).remaining == 1
    first = time.monotonic() - begun
    assert first < 2
    for _ in range(100):
        await counters.hit(parse("2/minute"), "slow", "x")
    assert time.monotonic() - begun - first < 0.2
    await counters.close()
    server.close()


async def test_redis_url_in_the_settings_is_used(redis_port: int):
    settings = Settings(
        auth_mode=AuthMode.REQUIRED, redis_url=SecretStr(f"redis://127.0.0.1:{redis_port}/0")
    )
    one, other = RateLimits(settings), RateLimits(settings)

    await (await connected(redis_port)).close()
    await ask(one, "bulk", "user:redis")
    assert (await ask(other, "bulk", "user:redis"))["X-RateLimit-Remaining"] == "28"
    await one.close()
    await other.close()
