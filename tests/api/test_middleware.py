"""Request ids, the last catch, and the codec server."""

from __future__ import annotations

import base64
import os

import pytest
from structlog.testing import capture_logs
from temporalio.api.common.v1 import Payload

from api.app import create_app
from conclave.crypto import Keyring
from tests.api.conftest import local_client
from workflows.codec import EncryptionCodec


async def test_a_sane_request_id_is_kept_and_another_one_replaced(client):
    answer = await client.get("/health/live", headers={"X-Request-ID": "abc-123"})
    assert answer.headers["X-Request-ID"] == "abc-123"
    for sent in ("", "a b", "x" * 129, "a\u00e9"):
        answer = await client.get("/health/live", headers={"X-Request-ID": sent.encode()})
        made = answer.headers["X-Request-ID"]
        assert made != sent
        assert len(made) == 32
    assert (await client.get("/nowhere")).headers["X-Request-ID"]


async def test_what_nobody_caught_is_told_to_nobody(api_settings, core, caplog):
    app = create_app(api_settings, core)

    @app.get("/agents/crash/now")
    async def crash() -> None:
        raise ValueError("the password is hunter2")

    async with local_client(app) as client:
        answer = await client.get("/agents/crash/now")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal server error"}
    assert answer.headers["X-Request-ID"]


async def test_head_answers_as_get_would_without_the_body(client):
    await client.post("/agents", json={"name": "A"})
    asked, told = await client.get("/agents"), await client.head("/agents")
    assert (told.status_code, told.content) == (200, b"")
    for name in ("content-length", "content-type", "x-total-count"):
        assert told.headers[name] == asked.headers[name]
    assert (await client.head("/agents/7")).status_code == 404
    assert (await client.head("/conversations/7/advance")).status_code == 405


async def test_a_path_cannot_forge_a_line_of_the_log(client):
    with capture_logs() as lines:
        await client.get("/nowhere%0a2026-01-01 admin came in")
    (line,) = (line for line in lines if line["event"] == "request")
    assert "\n" not in line["path"]
    assert line["path"].startswith("/nowhere%0a") or line["path"].startswith("/nowhere%0A")


@pytest.fixture
def codec(core):
    core.codec = EncryptionCodec(Keyring([os.urandom(32)]))
    yield core.codec
    core.codec = None


async def test_the_codec_server_turns_what_the_codec_encrypted_back(client, codec):
    secret = Payload(metadata={"encoding": b"json/plain"}, data=b'"hello"')
    (sealed,) = await codec.encode([secret])
    sent = {
        "metadata": {
            key: base64.b64encode(value).decode() for key, value in sealed.metadata.items()
        },
        "data": base64.b64encode(sealed.data).decode(),
    }
    answer = await client.post("/codec/decode", json={"payloads": [sent]})
    assert answer.status_code == 200
    (opened,) = answer.json()["payloads"]
    assert base64.b64decode(opened["data"]) == b'"hello"'
    again = (await client.post("/codec/encode", json={"payloads": [opened]})).json()["payloads"]
    assert base64.b64decode(again[0]["metadata"]["encoding"]) == b"binary/encrypted"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"payloads": 3}',
        b'{"payloads": [{"metadata": {"encoding": "YmluYXJ5L2VuY3J5cHRlZA=="}, "data": "AAAA"}]}',
        b"[" * 10_000,
        b"\xff",
    ],
)
async def test_the_codec_server_refuses_what_it_cannot_read(client, codec, body):
    answer = await client.post("/codec/decode", content=body)
    assert answer.status_code == 400
    assert isinstance(answer.json()["detail"], str)
