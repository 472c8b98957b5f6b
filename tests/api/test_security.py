"""The gate: from where a request may come under each AUTH_MODE."""

from __future__ import annotations

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from api.app import create_app
from api.security import InsecureBind, check_bind
from conclave.settings import AuthMode, Settings
from tests.api.conftest import BASE_URL
from tests.fakes.callers import bearer, token_of

UI = "http://127.0.0.1:8233"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.0.0.1", "127.9.9.9:8000"],
)
async def test_a_loopback_host_may_call(client, host):
    assert (await client.get("/agents", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000",
        "127.0.0.1.evil.example:8000",
        "localhost.evil.example",
        "192.168.1.7:8000",
        "0.0.0.0:8000",
        "169.254.169.254",
        "user@127.0.0.1:8000",
        "127.0.0.1:8000@evil.example",
        "127.0.0.1:port",
        "[::ffff:10.0.0.1]:8000",
        "2130706433",
        "",
    ],
)
async def test_a_rebound_name_may_not_call(client, host):
    for path in ("/agents", "/health", "/nowhere"):
        answer = await client.get(path, headers={"host": host})
        assert answer.status_code == 403
        assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:9999",
        "https://127.0.0.1:8000",
        "http://localhost:8000",
        "http://127.0.0.1:8000.evil.example",
        UI,
        "",
    ],
)
async def test_a_foreign_origin_may_not_call(client, origin):
    answer = await client.post("/agents", json={"name": "A"}, headers={"origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert (await client.get("/agents")).json() == []


async def test_the_own_origin_may_call(client):
    answer = await client.post("/agents", json={"name": "A"}, headers={"origin": BASE_URL})
    assert answer.status_code == 201


@pytest.mark.parametrize("ends", [{"client": ("10.0.0.9", 5000)}, {"client": ("::ffff:a00:9", 1)}])
async def test_a_caller_from_elsewhere_may_not_call(app, ends):
    transport = httpx.ASGITransport(app=app, **ends)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        assert (await client.get("/health")).status_code == 403


def test_local_mode_refuses_to_bind_beyond_loopback():
    for host in ("0.0.0.0", "::", "192.168.1.7", "conclave.example"):
        with pytest.raises(InsecureBind):
            check_bind(Settings(auth_mode=AuthMode.LOCAL, api_host=host))
        check_bind(Settings(auth_mode=AuthMode.REQUIRED, api_host=host))
    for host in ("127.0.0.1", "localhost", "::1"):
        check_bind(Settings(auth_mode=AuthMode.LOCAL, api_host=host))


async def test_an_application_bound_beyond_loopback_does_not_start(api_settings, core):
    app = create_app(api_settings.model_copy(update={"api_host": "0.0.0.0"}), core)
    with pytest.raises(InsecureBind):
        async with app.router.lifespan_context(app):
            pass


async def test_required_mode_opens_health_and_docs_only(outside):
    for path in ("/health", "/health/live", "/health/", "/docs", "/redoc", "/openapi.json"):
        assert (await outside.get(path)).status_code == 200
    for path in ("/agents", "/circles", "/conversations", "/nowhere", "/healthy", "/settings"):
        answer = await outside.get(path)
        assert answer.status_code == 401
        assert answer.json() == {"detail": "Not authenticated"}
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await outside.post("/codec/decode", json={"payloads": []})).status_code == 401


async def test_required_mode_admits_credentials_from_anywhere(api_settings, core, authenticator):
    settings = api_settings.model_copy(update={"auth_mode": AuthMode.REQUIRED})
    transport = httpx.ASGITransport(app=create_app(settings, core), client=("203.0.113.5", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://c.example") as client:
        assert (await client.get("/agents")).status_code == 401
        assert (await client.get("/agents", headers=bearer("viewer"))).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}]
)
async def test_credentials_do_not_open_the_gate_of_local_mode(client, authenticator, headers):
    assert (await client.get("/agents", headers=bearer("admin"))).status_code == 200
    answer = await client.get("/agents", headers=headers | bearer("admin"))
    assert answer.status_code == 403
    assert authenticator.asked == [token_of("admin")]


async def test_the_codec_is_an_admins_under_required_mode(outside):
    body = {"payloads": []}
    for caller, status in (("operator", 403), ("admin", 200), ("gateway", 200)):
        answer = await outside.post("/codec/decode", json=body, headers=bearer(caller))
        assert answer.status_code == status
    told = {"origin": UI, "access-control-request-method": "POST"}
    preflight = await outside.options("/codec/decode", headers=told)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-credentials"] == "true"
    refused = await outside.post("/codec/decode", json=body, headers={"origin": UI})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == UI


async def test_the_ui_of_temporal_may_use_the_codec_and_nothing_else(client):
    for origin in (UI, "http://localhost:8233"):
        headers = {"origin": origin, "access-control-request-method": "POST"}
        preflight = await client.options("/codec/decode", headers=headers)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "x-namespace" in preflight.headers["access-control-allow-headers"]
        answer = await client.post(
            "/codec/decode", json={"payloads": []}, headers={"origin": origin}
        )
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
    for path in ("/codec/decode", "/codec/encode"):
        answer = await client.post(
            path, json={"payloads": []}, headers={"origin": "http://evil.example"}
        )
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert (await client.get("/agents", headers={"origin": UI})).status_code == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", None),
        ("127.0.0.1:8000", "http://evil.example"),
        ("127.0.0.1:8000", "null"),
    ],
)
def test_a_websocket_passes_the_same_gate(api_settings, host, origin):
    headers = {"host": host} | ({"origin": origin} if origin else {})
    client = TestClient(create_app(api_settings), base_url=BASE_URL, client=("127.0.0.1", 1))
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect("/ws/dashboard", headers=headers),
    ):
        pass
    assert refused.value.code == 1008


LISTED = "https://app.example"


@pytest.mark.parametrize("mode", AuthMode)
@pytest.mark.parametrize(
    ("origin", "is_taken"),
    [
        (None, True),
        ("http://127.0.0.1:8000", True),
        (LISTED, True),
        ("http://127.0.0.1:9000", False),
        ("https://evil.example", False),
        ("null", False),
    ],
)
def test_a_websocket_of_a_foreign_page_is_refused_in_both_modes(
    api_settings, mode, origin, is_taken
):
    changes = {"auth_mode": mode, "cors_origins": LISTED}
    app = create_app(api_settings.model_copy(update=changes))
    client = TestClient(app, base_url=BASE_URL, client=("127.0.0.1", 1))
    headers = {"host": "127.0.0.1:8000"} | ({"origin": origin} if origin else {})
    if is_taken:  # past the gate: told about the missing channel or token after the handshake
        with client.websocket_connect("/ws/nowhere", headers=headers) as socket:
            ending = socket.receive()
            assert ending["code"] == (4004 if mode is AuthMode.LOCAL else 4001)
    else:
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("/ws/nowhere", headers=headers),
        ):
            pass
        assert refused.value.code == 1008


def test_the_own_page_may_open_a_websocket_behind_a_proxy_that_ends_tls(api_settings):
    app = create_app(api_settings.model_copy(update={"auth_mode": AuthMode.REQUIRED}))
    headers = {"host": "conclave.example", "origin": "https://conclave.example"}
    with TestClient(app).websocket_connect("/ws/nowhere", headers=headers) as socket:
        assert socket.receive()["code"] == 4001
