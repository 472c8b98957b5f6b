"""The gate: who may call under each AUTH_MODE."""

from __future__ import annotations

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from api.app import create_app
from api.security import InsecureBind, check_bind
from conclave.settings import AuthMode, Settings
from tests.api.conftest import BASE_URL, local_client

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


async def test_required_mode_opens_health_and_docs_only(api_settings, core, clean_database):
    settings = api_settings.model_copy(update={"auth_mode": AuthMode.REQUIRED})
    async with local_client(create_app(settings, core), "https://conclave.example") as client:
        for path in ("/health", "/health/live", "/health/", "/docs", "/redoc", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        for path in ("/agents", "/circles", "/conversations", "/nowhere", "/healthy"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert answer.json() == {"detail": "Not authenticated"}
        assert (await client.post("/codec/decode", json={"payloads": []})).status_code == 401


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
