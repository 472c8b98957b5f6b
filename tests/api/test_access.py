"""Admission: what is asked of a request, in which order, and what its answer carries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Scope

from api.access import Rule, Tier, Who
from api.app import DIALECTS, create_app
from api.deps import PrincipalDep
from api.errors import RateLimited, install
from conclave.caller import Caller, current_caller
from conclave.container import Core
from conclave.db import Database
from conclave.identity.authenticator import CredentialAuthenticator
from conclave.security.commands import NewIpRule
from conclave.settings import AuthMode
from schema.domain.identity import LOCAL_PRINCIPAL, SYSTEM_PRINCIPAL
from schema.domain.security import IpAction
from tests.api.conftest import forget_settings, local_client
from tests.fakes.callers import CALLERS, bearer, token_of

HOST = "https://conclave.example"


def app_with(settings, core, limiter=None, **changes: object) -> FastAPI:
    return create_app(settings.model_copy(update=changes), core, limiter=limiter)


async def test_401_comes_before_403_before_what_is_wrong_with_the_body(outside):
    bad = {"name": 7}
    assert (await outside.post("/agents", json=bad)).status_code == 401
    assert (await outside.post("/agents", json=bad, headers=bearer("viewer"))).status_code == 403
    assert (await outside.post("/agents", json=bad, headers=bearer("operator"))).status_code == 422


async def test_whoever_is_refused_changes_nothing(outside):
    for headers in ({}, bearer("viewer"), bearer("reading key"), {"authorization": "Bearer x"}):
        answer = await outside.post("/agents", json={"name": "A"}, headers=headers)
        assert answer.status_code in {401, 403}
    assert (await outside.get("/agents", headers=bearer("viewer"))).json() == []


async def test_the_body_of_who_may_not_call_is_not_read(outside):
    read: list[str] = []

    async def body(who: str) -> AsyncIterator[bytes]:
        read.append(who)
        yield b'{"name": "A"}'

    json = {"content-type": "application/json"}
    assert (await outside.post("/agents", content=body("nobody"), headers=json)).status_code == 401
    headers = json | bearer("viewer")
    assert (await outside.post("/agents", content=body("v"), headers=headers)).status_code == 403
    assert read == []


async def test_nothing_is_asked_about_a_request_without_credentials(outside, authenticator):
    assert (await outside.get("/agents")).status_code == 401
    assert (await outside.get("/health/live", headers=bearer("admin"))).status_code == 200
    assert authenticator.asked == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {token_of('viewer')}"}, 200),
        ({"authorization": f"bearer   {token_of('viewer')} "}, 200),
        ({"x-api-key": token_of("viewer")}, 200),
        ({"authorization": "Bearer wrong", "x-api-key": token_of("viewer")}, 401),
        ({"authorization": token_of("viewer")}, 401),
        ({"authorization": "Basic dXNlcjpwYXNz"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": b"Bearer \xff\xfe"}, 401),
        ({"authorization": "Bearer " + "x" * 9000}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "wrong"}, 401),
    ],
)
@pytest.mark.parametrize("mode", AuthMode)
async def test_credentials_count_where_they_are_sent_and_never_fall_back(
    api_settings, core, clean_database, authenticator, mode, headers, status
):
    app = app_with(api_settings, core, auth_mode=mode)
    async with local_client(app) as client:
        answer = await client.get("/agents", headers=headers)
        assert answer.status_code == status
        if status == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/health/live", headers=headers)).status_code == 200


async def test_a_token_in_the_url_is_for_sockets_only(outside):
    answer = await outside.get("/agents", params={"token": token_of("admin")})
    assert answer.status_code == 401


@pytest.mark.parametrize("mode", AuthMode)
async def test_the_gateway_token_acts_as_an_administrator(
    api_settings, core, clean_database, mode, monkeypatch
):
    identity = core.identity
    knowing = CredentialAuthenticator("the-gateway-token", identity.tokens, identity.sessions, None)
    monkeypatch.setattr(core, "authenticator", knowing)
    async with local_client(app_with(api_settings, core, auth_mode=mode)) as client:
        headers = {"authorization": "Bearer the-gateway-token"}
        assert (await client.get("/settings", headers=headers)).status_code == 200
        headers = {"authorization": "Bearer the-gateway-toke"}
        assert (await client.get("/settings", headers=headers)).status_code == 401


async def test_unknown_paths_and_methods_are_told_to_callers_only(outside, client):
    for method, path in (("GET", "/nowhere"), ("GET", "/api/v1/nowhere"), ("PUT", "/agents")):
        assert (await outside.request(method, path)).status_code == 401
    assert (await outside.get("/nowhere", headers=bearer("viewer"))).status_code == 404
    assert (await outside.put("/agents", headers=bearer("viewer"))).status_code == 405
    assert (await outside.post("/health")).status_code == 405
    assert (await client.get("/nowhere")).status_code == 404
    assert (await client.put("/agents")).status_code == 405
    wrong = {"authorization": "Bearer wrong"}
    assert (await client.get("/nowhere", headers=wrong)).status_code == 401


async def test_a_limited_session_learns_why_it_is_refused(outside):
    answer = await outside.get("/api/v1/nowhere", headers=bearer("limited admin"))
    assert answer.status_code == 403
    assert answer.json()["error_code"] == "AUTH_014"
    assert "password" in answer.json()["detail"]
    inside = await outside.get("/api/v1/auth/nowhere", headers=bearer("limited admin"))
    assert inside.status_code == 404


async def test_a_route_that_nobody_admitted_anybody_to_answers_401():
    app = FastAPI()

    @app.get("/")
    async def whoami(principal: PrincipalDep) -> str:
        return principal.key

    install(app, DIALECTS)
    async with local_client(app) as client:
        assert (await client.get("/")).status_code == 401


async def test_the_core_knows_who_calls_and_from_where(
    api_settings, core, clean_database, authenticator, monkeypatch
):
    seen: list[Caller] = []
    asked = core.agents.list

    async def spy(*args: Any) -> Any:
        seen.append(current_caller.get())
        return await asked(*args)

    monkeypatch.setattr(core.agents, "list", spy)
    headers = {"user-agent": "curl/8", "x-request-id": "r-1"}
    async with local_client(app_with(api_settings, core)) as client:
        await client.get("/agents", headers=headers | bearer("viewer"))
        await client.get("/agents", headers=headers)
    about = {"ip_address": "127.0.0.1", "user_agent": "curl/8", "request_id": "r-1"}
    assert seen == [
        Caller.model_validate({"principal": CALLERS["viewer"], **about}),
        Caller.model_validate({"principal": LOCAL_PRINCIPAL, **about}),
    ]
    assert current_caller.get().principal == SYSTEM_PRINCIPAL


class Counting:
    """A limiter that remembers what it was asked, and refuses when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Rule, str | None, str]] = []
        self.is_full = False

    async def check(
        self, scope: Scope, rule: Rule, caller_key: str | None, address: str
    ) -> Mapping[str, str]:
        self.asked.append((rule, caller_key, address))
        headers = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59"}
        if self.is_full:
            raise RateLimited("Too many requests", 7.2, headers | {"X-RateLimit-Remaining": "0"})
        return headers


async def test_the_limiter_is_asked_before_anything_else(
    api_settings, core, clean_database, authenticator
):
    limiter = Counting()
    app = app_with(api_settings, core, limiter, auth_mode=AuthMode.REQUIRED)
    async with local_client(app, HOST) as client:
        for headers, status in ((bearer("viewer"), 200), ({}, 401), (bearer("nobody"), 401)):
            answer = await client.get("/agents", headers=headers)
            assert answer.status_code == status
            assert answer.headers["x-ratelimit-remaining"] == "59"
        assert (await client.post("/agents", headers=bearer("viewer"))).status_code == 403
        await client.get("/health", headers=bearer("viewer"))
        await client.get("/docs")
        authenticator.asked.clear()
        limiter.is_full = True
        answer = await client.get("/agents", headers=bearer("viewer"))
    read, write = Rule(Who.READ, Tier.RELAXED, True), Rule(Who.WRITE, Tier.STANDARD, True)
    key = CALLERS["viewer"].key
    assert limiter.asked == [
        (read, key, "127.0.0.1"),
        (read, None, "127.0.0.1"),
        (read, None, "127.0.0.1"),
        (write, key, "127.0.0.1"),
        (read, key, "127.0.0.1"),
    ]
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "8"
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert authenticator.asked == []


async def deny(core: Core, cidr: str) -> None:
    rule = NewIpRule(cidr=cidr, action=IpAction.DENY)
    await core.security.replace_ip_rules([rule], force=True)


@pytest.fixture
async def denied(core: Core, clean_database: Database) -> AsyncIterator[None]:
    """A rule turns 203.0.113.0/24 away."""
    await deny(core, "203.0.113.0/24")
    yield
    forget_settings(core)


def caller_from(app: FastAPI, address: str, base_url: str = HOST) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(address, 5000))
    return httpx.AsyncClient(transport=transport, base_url=base_url)


async def test_ip_rules_hold_for_the_platform_but_not_for_its_health(
    api_settings, core, clean_database, authenticator, denied
):
    app = app_with(api_settings, core, auth_mode=AuthMode.REQUIRED)
    async with caller_from(app, "203.0.113.5") as client:
        answer = await client.get("/api/v1/nowhere", headers=bearer("admin"))
        assert (answer.status_code, answer.json()["error_code"]) == (403, "AUTH_013")
        assert authenticator.asked == [], "refused before the record is asked"
        assert (await client.get("/api/v1/health")).status_code == 200
        assert (await client.get("/agents", headers=bearer("admin"))).status_code == 200
    for address in ("198.51.100.1", "127.0.0.1", "::1"):
        async with caller_from(app, address) as client:
            answer = await client.get("/api/v1/nowhere", headers=bearer("admin"))
            assert answer.status_code == 404


async def test_new_ip_rules_hold_at_once(api_settings, core, clean_database, authenticator, denied):
    app = app_with(api_settings, core, auth_mode=AuthMode.REQUIRED)
    async with caller_from(app, "198.51.100.1") as client:
        assert (await client.get("/api/v1/x", headers=bearer("admin"))).status_code == 404
        await deny(core, "198.51.100.0/24")
        assert (await client.get("/api/v1/x", headers=bearer("admin"))).status_code == 403


async def test_a_forwarded_address_counts_from_trusted_proxies_only(
    api_settings, core, clean_database, authenticator
):
    limiter = Counting()
    app = app_with(
        api_settings, core, limiter, auth_mode=AuthMode.REQUIRED, trusted_proxies="10.0.0.0/8"
    )
    spoofed = {"x-forwarded-for": "127.0.0.1, 198.51.100.7", "x-forwarded-proto": "https"}
    for peer in ("10.1.1.1", "203.0.113.5"):
        async with caller_from(app, peer, "http://conclave.example") as client:
            answer = await client.get("/agents", headers=spoofed)
            is_secure = "strict-transport-security" in answer.headers
            assert is_secure == (peer == "10.1.1.1")
    assert [address for _, _, address in limiter.asked] == ["198.51.100.7", "203.0.113.5"]


async def test_a_proxied_stranger_is_not_on_this_machine(api_settings, core, clean_database):
    app = app_with(api_settings, core, trusted_proxies="127.0.0.1")
    async with local_client(app) as client:
        assert (await client.get("/agents")).status_code == 200
        for forwarded in ("203.0.113.5", "127.0.0.1, 203.0.113.5", "unknown"):
            answer = await client.get("/agents", headers={"x-forwarded-for": forwarded})
            assert answer.status_code == 403
    untrusting = app_with(api_settings, core)
    async with local_client(untrusting) as client:
        answer = await client.get("/agents", headers={"x-forwarded-for": "203.0.113.5"})
        assert answer.status_code == 200


SECURE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


async def test_every_answer_carries_the_headers(outside):
    big = b"x" * (1024 * 1024 + 1)
    answers = [
        await outside.get("/health"),
        await outside.get("/agents"),
        await outside.get("/agents", headers=bearer("viewer")),
        await outside.post("/agents", headers=bearer("viewer")),
        await outside.post("/agents", json={}, headers=bearer("operator")),
        await outside.post("/agents", content=big, headers=bearer("operator")),
        await outside.get("/api/v1/nowhere", headers=bearer("admin")),
        await outside.get("/docs"),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 403, 422, 413, 404, 200]
    for answer in answers:
        assert SECURE.items() <= dict(answer.headers).items()
        for name in ("x-request-id", "permissions-policy", "content-security-policy"):
            assert answer.headers.get_list(name) == [answer.headers[name]]
        assert answer.headers["x-response-time"].endswith("ms")
        assert "strict-transport-security" in answer.headers


async def test_strict_transport_is_told_over_tls_only(client):
    answer = await client.get("/health")
    assert "strict-transport-security" not in answer.headers
    forged = await client.get("/health", headers={"x-forwarded-proto": "https"})
    assert "strict-transport-security" not in forged.headers


APP_ORIGIN = "https://app.example"


@pytest.mark.parametrize("mode", AuthMode)
async def test_listed_origins_may_call_from_a_browser(
    api_settings, core, clean_database, authenticator, mode
):
    app = app_with(api_settings, core, auth_mode=mode, cors_origins=f"{APP_ORIGIN}, http://b.test")
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    async with local_client(app) as client:
        preflight = await client.options("/agents", headers={"origin": APP_ORIGIN} | asks)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == APP_ORIGIN
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        told = {"origin": APP_ORIGIN}
        for headers, status in ((bearer("viewer"), 200), ({"authorization": "Bearer x"}, 401)):
            answer = await client.get("/agents", headers=told | headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == APP_ORIGIN
            assert "access-control-allow-credentials" not in answer.headers
            exposed = answer.headers["access-control-expose-headers"]
            for name in ("X-Request-ID", "X-Response-Time", "X-RateLimit-Reset", "X-Total-Count"):
                assert name in exposed
            assert "Origin" in answer.headers["vary"]
        for origin in ("http://app.example", "https://app.example:444", "https://evil.example"):
            answer = await client.options("/agents", headers={"origin": origin} | asks)
            assert answer.status_code in {401, 403}
            assert "access-control-allow-origin" not in answer.headers
