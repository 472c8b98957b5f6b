"""The product, whole, under AUTH_MODE=required: people sign in and do what their roles allow."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from tests.harness.up import running_up
from tests.waiting import until

_ROOT = Path(__file__).parents[2]
ADA, BOB = "ada@example.org", "bob@example.org"
PASSWORD = "Correct-Horse-7!"
SECRET = "hunter2-of-this-test"
AGENT = {"name": "Ada", "provider": "openai", "model": "gpt-4o-mini"}


@pytest.fixture
def site() -> Iterator[Path]:
    with TemporaryDirectory(prefix="conclave-signed-in-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


class Product:
    """The running product as a client sees it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: object = None,
        *,
        status: int = 200,
        api_key: str | None = None,
    ) -> Any:
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        if api_key is not None:
            shown["X-API-Key"] = api_key
        answer = await self._http.request(method, path, json=body, headers=shown)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def log_in(self, email: str, password: str = PASSWORD, status: int = 200) -> Any:
        body = {"email": email, "password": password}
        return await self.call("POST", "/api/v1/auth/login", body=body, status=status)


async def conclave(*arguments: str) -> str:
    """Run a command; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    for name in ("DATABASE_URL", "ENCRYPTION_KEY"):
        environment.pop(name, None)
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-m", "conclave.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.timeout(420)  # a start of everything, on a machine that may be busy
async def test_people_sign_in_and_do_what_their_roles_allow(site: Path):
    data_dir = ["--data-dir", str(site / "data")]
    flags = [*data_dir, "--ready-file", str(site / "ready.json")]
    ports = ["--api-port", "0", "--temporal-port", "0", "--ui-port", "0"]
    # Signing in has ten tries a minute of one address, which this test's are soon.
    env = ["--env", "AUTH_MODE=required", "--env", "RATE_LIMIT_STRICT=off"]
    async with running_up(
        ["-P", "-m", "conclave.cli", "up", *flags, *ports, *env, "--env", "LOG_LEVEL=WARNING"],
        ready_file=site / "ready.json",
        console=site / "console",
    ) as running:
        await running.is_up(timeout=150)
        ready = running.ready()
        assert ready is not None
        async with httpx.AsyncClient(base_url=str(ready["api"]), timeout=60) as http:
            product = Product(http)
            admin = await the_first_account_is_an_administrator(product)
            await an_account_that_an_administrator_made_only_reads(product, admin)
            await an_api_key_acts_for_its_owner(product, admin)
            await a_secret_is_shown_to_who_may_see_it(product, admin)
            await wrong_passwords_lock(product)
            gateway = (await conclave("token", *data_dir)).split()[-1]
            assert len(await product.call("GET", "/agents", gateway)) == 2
            written = await product.call("GET", "/api/v1/admin/audit?limit=200", gateway)
            await the_audit_log_holds(data_dir, len(written))
        assert SECRET not in running.said()
        assert PASSWORD not in running.said()


async def the_first_account_is_an_administrator(product: Product) -> str:
    await product.call("GET", "/health/ready")
    await product.call("GET", "/agents", status=401)
    account = {"email": ADA, "password": PASSWORD}
    made = await product.call("POST", "/api/v1/auth/register", body=account, status=201)
    assert made["role"] == "admin"
    again = {**account, "email": BOB}
    await product.call("POST", "/api/v1/auth/register", body=again, status=403)
    token = (await product.log_in(ADA))["access_token"]
    me = await product.call("GET", "/api/v1/auth/me", token)
    assert (me["email"], me["role"]) == (ADA, "admin")
    assert await product.call("GET", "/agents", token) == []
    await product.call("POST", "/agents", token, AGENT, status=201)
    return token


async def an_account_that_an_administrator_made_only_reads(product: Product, admin: str) -> None:
    bob = {"email": BOB, "password": PASSWORD, "full_name": "Bob", "role": "viewer"}
    await product.call("POST", "/api/v1/admin/users", admin, bob, status=201)
    token = (await product.log_in(BOB))["access_token"]
    assert len(await product.call("GET", "/agents", token)) == 1
    await product.call("POST", "/agents", token, AGENT, status=403)
    await product.call("GET", "/api/v1/secrets", token, status=403)
    await product.call("POST", "/api/v1/auth/logout", token)
    await product.call("GET", "/agents", token, status=401)


async def an_api_key_acts_for_its_owner(product: Product, admin: str) -> None:
    keys = "/api/v1/security/api-keys"
    wanted = {"name": "ci", "scopes": ["read", "write"]}
    made = await product.call("POST", keys, admin, wanted, status=201)
    key = made["key"]
    agent = {**AGENT, "name": "Babbage"}
    await product.call("POST", "/agents", None, agent, status=201, api_key=key)
    await product.call("GET", "/api/v1/admin/users", status=403, api_key=key)
    await product.call("DELETE", f"{keys}/{made['id']}", admin, status=204)
    await product.call("GET", "/agents", status=401, api_key=key)


async def a_secret_is_shown_to_who_may_see_it(product: Product, admin: str) -> None:
    secret = {"name": "db", "value": SECRET}
    made = await product.call("POST", "/api/v1/secrets", admin, secret, status=201)
    assert SECRET not in str(made)
    shown = await product.call("GET", f"/api/v1/secrets/{made['id']}?reveal=true", admin)
    assert shown["value"] == SECRET


async def wrong_passwords_lock(product: Product) -> None:
    for _ in range(5):
        await product.log_in(BOB, "Wrong-Horse-7!", status=401)
    await product.log_in(BOB, status=423)
    assert (await product.log_in(ADA))["token_type"] == "bearer"


async def the_audit_log_holds(data_dir: list[str], entries: int) -> None:
    """Upkeep seals it a little later; what is verified names them all, sealed or waiting."""

    async def are_told() -> bool:
        said = await conclave("audit", "verify", *data_dir)
        assert "Nothing was altered." in said
        first = said.splitlines()[0]
        sealed = int(first.split(" over ")[1].split()[0])
        waiting = int(first.split("; ")[1].split()[0])
        assert sealed + waiting >= entries > 10
        return sealed >= entries

    await until(are_told, timeout=120, every=2, what="seals over every entry")
