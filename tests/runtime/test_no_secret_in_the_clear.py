"""The product, whole, with a secret in use: its value is nowhere but with the model provider.

Looked at: every answer of the API but the two that were asked to show the value, a dump of the
database, every workflow history (as the server holds it, and decrypted), every file of the data
directory (logs, PostgreSQL's own files, Temporal's), and the console.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from conclave.container import temporal_client
from conclave.crypto import Keyring
from conclave.runtime import files
from conclave.runtime.plan import Layout
from conclave.runtime.postgres import Postgres
from conclave.settings import Settings
from tests.fakes.model_server import Failure, ModelServer
from tests.harness.leaks import disguises, files_below, leaks
from tests.harness.up import RunningUp, running_up
from tests.histories.files import opened_payloads, raw
from tests.waiting import until
from workflows.codec import EncryptionCodec

_ROOT = Path(__file__).parents[2]
FIRST = "canary7Qm1VtZx9KpR4wLs2Hn/+%\"='one"
SECOND = "canaryB5dXe8Yc3GuJ6oTf0Ai/+%\"='two"
NEVER_STORED = "canaryMistakenlySent4Wb1Nz"


@pytest.fixture
def site() -> Iterator[Path]:
    with TemporaryDirectory(prefix="conclave-vault-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@dataclass
class Product:
    """The running product as a client sees it; what it answered is kept."""

    running: RunningUp
    layout: Layout
    client: httpx.AsyncClient
    answers: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    async def call(
        self, method: str, path: str, body: object = None, *, status: int = 200
    ) -> dict[str, Any]:
        answer = await self.client.request(method, path, json=body)
        assert answer.status_code == status, (method, path, answer.text)
        self.keep(answer)
        return answer.json() if answer.content else {}

    def keep(self, answer: httpx.Response) -> None:
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        name = f"answer {answer.request.method} {answer.request.url.path} #{len(self.answers)}"
        self.answers.append((name, headers.encode() + b"\n\n" + answer.content))

    async def reveal(self, secret: dict[str, Any]) -> str:
        """The one answer that may show it."""
        answer = await self.client.get(f"/api/v1/secrets/{secret['id']}", params={"reveal": True})
        assert answer.headers["cache-control"] == "no-store"
        return str(answer.json()["value"])

    async def turn(self, conversation: dict[str, Any], *, fails: bool = False) -> None:
        """Advance; a turn that fails answers with an error."""
        answer = await self.client.post(f"/conversations/{conversation['id']}/advance")
        assert (answer.status_code >= 400) is fails, answer.text
        self.keep(answer)

    async def conversation(self, agent: dict[str, Any]) -> dict[str, Any]:
        fields = {"topic": "tea", "agent_ids": [agent["id"]], "auto_run": False}
        return await self.call("POST", "/conversations", fields, status=201)


def used_keys(model: ModelServer) -> list[str]:
    """The keys that the provider was shown, in order."""
    return [one.headers["Authorization"].removeprefix("Bearer ") for one in model.requests]


@pytest.mark.timeout(420)  # a start of everything, on a machine that may be busy
async def test_a_secret_that_is_used_is_nowhere_in_the_clear(site: Path, model: ModelServer):
    layout = Layout(site / "data")
    flags = ["--data-dir", str(layout.root), "--ready-file", str(site / "ready.json")]
    ports = ["--api-port", "0", "--temporal-port", "0", "--ui-port", "0"]
    env = [f"OPENAI_BASE_URL={model.base_url}", "LOG_LEVEL=DEBUG"]
    command = ["-P", "-m", "conclave.cli", "up", *flags, *ports, "--verbose"]
    command += [part for one in env for part in ("--env", one)]
    async with running_up(
        command, ready_file=site / "ready.json", console=site / "console"
    ) as running:
        await running.is_up(timeout=150)
        ready = running.ready()
        assert ready is not None
        token = files.installation_secrets(layout)["GATEWAY_TOKEN"]
        async with httpx.AsyncClient(
            base_url=str(ready["api"]), timeout=60, headers={"Authorization": f"Bearer {token}"}
        ) as client:
            product = Product(running, layout, client)
            made = await use_a_secret(product, model)
        found = [
            *product.answers,
            ("database dump", dump(layout)),
            *[place async for place in histories(layout, str(ready["temporal"]))],
        ]
    assert len(found) > 20
    values = [FIRST, SECOND, NEVER_STORED, *made]
    assert not leaks(iter(found), values)
    assert not leaks(files_below(site), values), "in files; the console is one of them"


async def use_a_secret(product: Product, model: ModelServer) -> list[str]:
    """Do everything that a secret goes through; return values that were made on the way."""
    secret = await product.call(
        "POST", "/api/v1/secrets", {"name": "openai-prod", "value": FIRST}, status=201
    )
    await product.call("PATCH", "/settings/providers/openai", {"api_key": "secret://openai-prod"})
    agent = await product.call(
        "POST",
        "/agents",
        {"name": "Ada", "provider": "openai", "model": "gpt-4o-mini"},
        status=201,
    )
    talk = await product.conversation(agent)
    await product.turn(talk)
    assert used_keys(model) == [FIRST], "the provider was shown the value in full"
    assert (await product.call("POST", "/settings/providers/openai/test"))["success"]

    where = f"/api/v1/secrets/{secret['id']}"
    await product.call("POST", f"{where}/rotate", {"value": SECOND})
    await until(lambda: turned(product, model, talk), timeout=30, what="a turn with the new value")
    assert await product.reveal(secret) == SECOND
    await rotate_keys(product)
    await product.turn(talk)
    assert used_keys(model)[-1] == SECOND
    assert await product.reveal(secret) == SECOND
    await look_everywhere(product, secret)
    await provoke_errors(product, model, agent, secret)
    return await end_with_a_random_value(product, where, talk)


async def turned(product: Product, model: ModelServer, talk: dict[str, Any]) -> bool:
    await product.turn(talk)
    return used_keys(model)[-1] == SECOND


async def rotate_keys(product: Product) -> None:
    """ENCRYPTION_KEY itself, while the product runs."""
    command = ["-P", "-m", "conclave.cli", "keys", "rotate", "--data-dir", str(product.layout.root)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    environment.pop("ENCRYPTION_KEY", None)
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    assert "secrets.data_key: 1 sealed again" in result.stdout
    product.answers.append(("keys rotate", (result.stdout + result.stderr).encode()))


async def look_everywhere(product: Product, secret: dict[str, Any]) -> None:
    for path in (
        "/api/v1/secrets",
        f"/api/v1/secrets/{secret['id']}",
        "/api/v1/secrets/expiring?days=3650&include_expired=true",
        "/settings",
        "/conversations",
        "/agents",
        "/health",
        "/openapi.json",
    ):
        await product.call("GET", path)


async def provoke_errors(
    product: Product, model: ModelServer, agent: dict[str, Any], secret: dict[str, Any]
) -> None:
    where = f"/api/v1/secrets/{secret['id']}"
    sent = {"name": "openai-prod", "value": NEVER_STORED}
    await product.call("POST", "/api/v1/secrets", sent, status=409)
    await product.call("POST", "/api/v1/secrets", {"value": NEVER_STORED}, status=422)
    await product.call("POST", "/api/v1/secrets", {**sent, "expires_at": "never"}, status=422)
    await product.call("PUT", where, {"value": [NEVER_STORED]}, status=422)
    await product.call("PUT", "/api/v1/secrets/999", {"value": NEVER_STORED}, status=404)
    await product.call("GET", "/api/v1/secrets/999?reveal=true", status=404)
    await product.call("DELETE", where, status=409)
    await product.call("PATCH", "/settings/providers/nobody", {"api_key": NEVER_STORED}, status=404)
    await product.call("GET", f"/nowhere?token={NEVER_STORED}", status=404)
    # Providers that repeat the key they were shown in what they complain of.
    for status in (401, 400, 500):
        complaint = Failure(status, f"bad key {SECOND} ({quote(SECOND)})", times=20)
        model.script.clear()
        model.enqueue(complaint)
        await product.turn(await product.conversation(agent), fails=True)
    model.script.clear()
    model.enqueue(Failure(401, body=f"<html>{SECOND}</html>"))
    await product.turn(await product.conversation(agent), fails=True)
    model.api_key = "another"
    assert not (await product.call("POST", "/settings/providers/openai/test"))["success"]
    model.api_key = None


async def end_with_a_random_value(product: Product, where: str, talk: dict[str, Any]) -> list[str]:
    """A random value is shown once, and an expired one is not used any more."""
    answer = await product.client.post(f"{where}/rotate", json={"length": 64})
    made = str(answer.json()["value"])
    assert len(made) == 64
    await product.call("PUT", where, {"expires_at": "2020-01-01"})

    async def refused() -> bool:
        answer = await product.client.post(f"/conversations/{talk['id']}/advance")
        product.keep(answer)
        return "secret://openai-prod has expired" in answer.text

    await until(refused, timeout=30, what="a turn that fails for the expired secret")
    return [made]


def dump(layout: Layout) -> bytes:
    postgres = Postgres.at(layout.postgres)
    program = Path(postgres.command()[0]).with_name("pg_dump")
    result = subprocess.run(
        [str(program), "--format=plain", "--inserts", postgres.url()],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert b"secret_versions" in result.stdout
    return result.stdout


async def histories(layout: Layout, address: str) -> AsyncIterator[tuple[str, bytes]]:
    """Every history, as the server holds it and decrypted."""
    key = files.installation_secrets(layout)["ENCRYPTION_KEY"]
    settings = Settings.model_validate({"temporal_address": address, "encryption_key": key})
    client = await temporal_client(settings)
    codec = EncryptionCodec(Keyring.parse(key))
    async for run in client.list_workflows():
        handle = client.get_workflow_handle(run.id, run_id=run.run_id)
        history = await handle.fetch_history()
        yield f"history {run.id} as JSON", history.to_json().encode()
        yield f"history {run.id} as bytes", raw(history)
        for payload in await opened_payloads(history, codec):
            yield f"history {run.id} decrypted", payload.SerializeToString()


@pytest.mark.parametrize(
    "leak",
    [
        FIRST,
        json.dumps({"key": FIRST}),
        quote(FIRST, safe=""),
        FIRST.encode().hex(),
        FIRST.encode().hex().upper(),
        base64.b64encode(FIRST.encode()).decode(),
        base64.urlsafe_b64encode(b"ab" + FIRST.encode() + b"c").decode(),
        base64.b64encode(b"Bearer " + FIRST.encode() + b" and more").decode(),
    ],
)
def test_a_planted_leak_is_found(tmp_path: Path, leak: str):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "api.log").write_text(f"INFO {leak} was here\n")
    (tmp_path / "other").write_text("nothing")
    assert {one.place for one in leaks(files_below(tmp_path), [FIRST])} == {"logs/api.log"}


def test_other_texts_are_no_leak(tmp_path: Path):
    (tmp_path / "log").write_text("canary " + SECOND)
    assert not leaks(files_below(tmp_path), [FIRST])
    assert min(map(len, disguises(FIRST))) > 20
