"""People with accounts: the application over a real database, a clock and a policy to set.

It runs under AUTH_MODE=required and is called from another machine; anybody may register unless
a test's policy says otherwise, and nothing is too often.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyotp.totp import TOTP
from sqlalchemy import text

from api.app import create_app
from conclave.container import Core, build_core
from conclave.crypto import Keyring, new_key
from conclave.db import Database
from conclave.identity.assembly import Identity, build_identity
from conclave.identity.clock import utc_now
from conclave.identity.passwords import Argon2Cost
from conclave.settings import AuthMode, Settings
from schema.domain.identity import Principal
from schema.domain.security import IpRule, SecurityConfig
from tests.fakes.engine import FakeEngine
from tests.fakes.limits import Uncounted
from tests.harness.logs import log_plainly
from tests.waiting import until

CHEAP = Argon2Cost(time_cost=1, memory_kib=64, parallelism=1)
GATEWAY = "gateway-token-of-these-tests"
PASSWORD = "Correct-Horse-7!"
OTHER_PASSWORD = "Battery-Staple-8?"
ADDRESS = "203.0.113.9"


def error(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an answer that refuses."""
    return answer.status_code, answer.json()["error_code"]


class Clock:
    """The real time, and as much later as a test says."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead

    def move(self, **duration: float) -> None:
        self.ahead += timedelta(**duration)


class Policy:
    """Settings that a test sets."""

    def __init__(self) -> None:
        self.config = SecurityConfig()

    def set(self, part: str, **values: object) -> None:
        old = getattr(self.config, part)
        self.config = self.config.model_copy(update={part: old.model_copy(update=values)})

    async def current(self) -> SecurityConfig:
        return self.config

    def last_known(self) -> SecurityConfig:
        return self.config

    async def ip_rules(self) -> list[IpRule]:
        return []


class ApiKeys:
    """An `ApiKeyVerifier` that knows what a test told it."""

    def __init__(self) -> None:
        self.known: dict[str, Principal] = {}

    async def verify(self, key: str) -> Principal:
        return self.known[key]

    def recognise(self, key: str) -> str | None:
        return self.known[key].key if key in self.known else None


@dataclass
class Person:
    """Somebody who signed in."""

    id: int
    email: str
    tokens: dict[str, Any]
    secret: str = ""
    backup_codes: list[str] = field(default_factory=list[str])

    @property
    def access(self) -> str:
        return self.tokens["access_token"]

    @property
    def refresh(self) -> str:
        return self.tokens["refresh_token"]


@dataclass
class Accounts:
    """What a test works with."""

    settings: Settings
    db: Database
    identity: Identity
    clock: Clock
    policy: Policy
    api_keys: ApiKeys
    client: httpx.AsyncClient

    async def call(
        self, method: str, path: str, token: str | None = None, /, **body: object
    ) -> httpx.Response:
        """Send a request of the platform dialect; fields make its body."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        content: Any = {"json": body} if body else {}
        return await self.client.request(method, f"/api/v1{path}", headers=headers, **content)

    async def post(self, path: str, token: str | None = None, /, **body: object) -> httpx.Response:
        return await self.call("POST", path, token, **body)

    async def get(self, path: str, token: str | None = None) -> httpx.Response:
        return await self.call("GET", path, token)

    async def login(self, email: str, password: str = PASSWORD, **more: object) -> httpx.Response:
        return await self.post("/auth/login", email=email, password=password, **more)

    async def person(self, email: str, password: str = PASSWORD) -> Person:
        """Register and sign in; the first one is the administrator."""
        made = await self.post("/auth/register", email=email, password=password)
        assert made.status_code == 201, made.text
        signed_in = await self.login(email, password)
        assert signed_in.status_code == 200, signed_in.text
        return Person(made.json()["id"], email, signed_in.json())

    async def again(self, person: Person) -> Person:
        """The same person in another session."""
        signed_in = await self.login(person.email)
        assert signed_in.status_code == 200, signed_in.text
        return Person(person.id, person.email, signed_in.json())

    async def with_mfa(self, email: str) -> Person:
        """Somebody with a second factor, whose next code is already good."""
        person = await self.person(email)
        setup = await self.post("/auth/mfa/setup", person.access)
        assert setup.status_code == 200, setup.text
        person.secret = setup.json()["secret"]
        enabled = await self.post("/auth/mfa/verify", person.access, totp_code=self.code(person))
        assert enabled.status_code == 200, enabled.text
        person.backup_codes = enabled.json()["backup_codes"]
        self.clock.move(seconds=30)
        return person

    def code(self, person: Person, *, steps: int = 0) -> str:
        """The present code, or one so many time steps away."""
        return TOTP(person.secret).at(self.clock() + timedelta(seconds=30 * steps))

    async def challenge(self, person: Person) -> str:
        """The password's half of a login."""
        answer = await self.login(person.email)
        assert answer.status_code == 200, answer.text
        return answer.json()["temp_token"]

    async def is_signed_in(self, token: str) -> bool:
        answer = await self.get("/auth/me", token)
        assert answer.status_code in {200, 401}, answer.text
        return answer.status_code == 200

    async def execute(self, statement: str, **values: object) -> None:
        async with self.db.transaction() as tx:
            await tx.conn.execute(text(statement), values)

    async def value(self, statement: str, **values: object) -> Any:
        async with self.db.transaction() as tx:
            return (await tx.conn.execute(text(statement), values)).scalar_one()

    async def audited(self, action: str) -> list[dict[str, Any]]:
        async with self.db.transaction() as tx:
            rows = await tx.conn.execute(
                text("SELECT * FROM audit_entries WHERE action = :action ORDER BY id"),
                {"action": action},
            )
            return [dict(row) for row in rows.mappings()]


@pytest.fixture(scope="session")
async def accounts_core(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Core]:
    log_plainly()
    data_dir: Path = tmp_path_factory.mktemp("accounts")
    settings = Settings.model_validate(
        {
            "auth_mode": AuthMode.LOCAL,
            "database_url": postgres_url,
            "conclave_data_dir": data_dir,
            "encryption_key": new_key(),
            "jwt_secret": None,
            "gateway_token": GATEWAY,
            "admin_email": None,
            "admin_password": None,
            "redis_url": None,
        }
    )
    core = await build_core(settings, engine=FakeEngine(), password_cost=CHEAP)
    yield core
    await core.close()


@pytest.fixture
async def accounts(accounts_core: Core, clean_database: Database) -> AsyncIterator[Accounts]:
    """Nobody yet, the default policy, the present time."""
    core = accounts_core
    clock, policy, api_keys = Clock(), Policy(), ApiKeys()
    assert core.settings.encryption_key is not None
    box = Keyring.parse(core.settings.encryption_key.get_secret_value())
    core.identity = build_identity(
        core.settings, core.db, policy, box, api_keys=api_keys, cost=CHEAP, clock=clock
    )
    core.authenticator = core.identity.authenticator
    required = core.settings.model_copy(update={"auth_mode": AuthMode.REQUIRED})
    app = create_app(required, core, limiter=Uncounted())
    transport = httpx.ASGITransport(app=app, client=(ADDRESS, 40_000))
    async with httpx.AsyncClient(
        transport=transport, base_url="https://conclave.example", headers={"User-Agent": "tests/1"}
    ) as client:
        yield Accounts(core.settings, core.db, core.identity, clock, policy, api_keys, client)
    await until(lambda: core.errands.is_idle, what="the errands")
    core.identity.close()
