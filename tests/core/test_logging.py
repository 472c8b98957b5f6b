"""What never reaches a log line."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from conclave.logging import configure_logging, get_logger, mask_secrets
from conclave.settings import LogFormat

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLWJ5dGVz"
SHAPES = [
    "sk-ant-0123456789abcdef",
    JWT,
    "conclave_" + "Ab1-_" * 9,
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
]


def masked(**event: object) -> str:
    return json.dumps(mask_secrets(None, "info", dict(event)), default=repr)


@pytest.mark.parametrize("secret", SHAPES)
@pytest.mark.parametrize(
    "around", ["{}", "before {} after", '{{"key": "{}"}}', "ValueError: bad ({})"]
)
def test_what_looks_like_a_key_is_masked_wherever_it_stands(secret: str, around: str):
    text = around.format(secret)
    for shown in (masked(event=text), masked(event="e", deep={"list": [1, {"x": (text,)}]})):
        assert secret not in shown
        assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "GET /x?token=hunter2hunter2&y=1",
        "GET /x?a=1&client_secret=hunter2hunter2",
        "https://h/x?access_token=hunter2hunter2#f",
        "https://generativelanguage/x?key=hunter2hunter2",
        "postgresql://user:hunter2hunter2@host/db",
        "host=h password=hunter2hunter2 dbname=d",
        "Authorization: Bearer hunter2hunter2",
        "Authorization: Basic hunter2hunter2",
        "call(api_key='hunter2hunter2')",
        '{"password": "hunter2hunter2"}',
    ],
)
def test_what_stands_where_secrets_stand_is_masked(text: str):
    assert "hunter2" not in masked(event=text)


def test_names_that_say_secret_blank_their_value_at_any_depth():
    shown = masked(
        event="e",
        api_key="hunter2",
        headers={"Authorization": "hunter2", "Cookie": b"hunter2", "Accept": "text/html"},
        settings=[{"smtp_password": ["hunter2"], "private_key": "hunter2"}],
    )
    assert "hunter2" not in shown
    assert "text/html" in shown


def test_exceptions_are_masked(capsys: pytest.CaptureFixture[str]):
    assert "hunter2" not in masked(error=ValueError("Bearer hunter2hunter2"))
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    configured = structlog.get_config()
    try:
        configure_logging("INFO", LogFormat.JSON)
        log = get_logger("tests.masking")
        try:
            raise ValueError(f"refused: {JWT}")
        except ValueError:
            log.exception("failed")
            logging.getLogger("tests.stdlib").exception("failed with %s", SHAPES[0])
    finally:
        structlog.configure(**configured)
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    shown = capsys.readouterr().err
    assert shown.count("Traceback") == 2
    assert JWT not in shown
    assert SHAPES[0] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "task-assessment-of-everything",
        "risk-1234567890123",
        "conclave_by_command",
        "GET /agents?page=2&page_size=50",
        "http://127.0.0.1:8000/docs",
        "12 prompt_tokens, token limit reached",
    ],
)
def test_ordinary_texts_stay_as_they_are(text: str):
    assert masked(event=text) == json.dumps({"event": text})


def test_what_is_nested_without_end_is_cut():
    loop: dict[str, object] = {}
    loop["self"] = loop
    assert "..." in masked(event="e", loop=loop)
