"""The administrator that the environment names."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from conclave.db import Database
from conclave.identity.assembly import Identity, build_identity
from conclave.identity.commands import Register
from conclave.identity.errors import RegistrationClosed
from conclave.settings import AuthMode
from tests.harness.accounts import CHEAP, OTHER_PASSWORD, PASSWORD, Accounts

ADMIN = "Root@Corp.local"
WEAK = "hunter2"


def identity(accounts: Accounts, password: str | None = PASSWORD, **values: object) -> Identity:
    update = {
        "admin_email": ADMIN,
        "admin_password": None if password is None else SecretStr(password),
        **values,
    }
    settings = accounts.settings.model_copy(update=update)
    return build_identity(settings, accounts.db, accounts.policy, None, cost=CHEAP)


async def test_it_is_made_where_there_is_nobody_and_by_one_process(accounts: Accounts):
    starting = [identity(accounts) for _ in range(4)]
    await asyncio.gather(*(one.registration.try_to_seed() for one in starting))
    signed_in = await accounts.login("root@corp.local")
    me = (await accounts.get("/auth/me", signed_in.json()["access_token"])).json()
    assert (me["role"], me["full_name"]) == ("admin", "root")
    assert await accounts.value("SELECT count(*) FROM users") == 1
    assert len(await accounts.audited("user_created")) == 1


async def test_a_later_start_changes_nothing(accounts: Accounts):
    await identity(accounts).registration.try_to_seed()
    await identity(accounts, OTHER_PASSWORD).registration.try_to_seed()
    assert (await accounts.login(ADMIN)).status_code == 200


async def test_where_somebody_is_already_nobody_is_added(accounts: Accounts):
    await accounts.person("ada@example.org")
    await identity(accounts).registration.try_to_seed()
    assert (await accounts.login(ADMIN)).status_code == 401


async def test_the_seeded_administrator_is_first_even_if_the_start_could_not_make_it(
    accounts: Accounts,
):
    late = identity(accounts)  # as where the database was away at start
    user = await late.registration.register(Register(email="ada@b.org", password=PASSWORD))
    assert user.role.value == "operator"


@pytest.mark.parametrize(
    ("values", "said"),
    [({"password": WEAK}, "12 characters"), ({"admin_email": "nobody"}, "ADMIN_EMAIL")],
)
async def test_one_that_cannot_be_made_is_told_and_lets_nobody_else_be_first(
    accounts: Accounts, values: dict[str, str], said: str
):
    refused = identity(accounts, **values)
    with capture_logs() as logs:
        await refused.registration.try_to_seed()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("administrator_not_seeded", "error")
    ]
    assert said in logs[0]["reason"]
    assert WEAK not in str(logs)
    with pytest.raises(RegistrationClosed):
        await refused.registration.register(Register(email="ada@b.org", password=PASSWORD))


async def test_without_a_password_nothing_is_seeded(accounts: Accounts):
    await identity(accounts, password=None).registration.try_to_seed()
    await identity(accounts, password="").registration.try_to_seed()
    assert await accounts.value("SELECT count(*) FROM users") == 0


async def test_where_signing_in_is_required_registration_closes_behind_the_first(
    accounts: Accounts,
):
    required = identity(accounts, password=None, auth_mode=AuthMode.REQUIRED)
    register = required.registration.register
    first = await register(Register(email="ada@example.org", password=PASSWORD))
    assert first.role.value == "admin"
    with pytest.raises(RegistrationClosed):
        await register(Register(email="bob@example.org", password=PASSWORD))
    accounts.policy.set("registration", enabled=True)
    second = await register(Register(email="bob@example.org", password=PASSWORD))
    assert second.role.value == "operator"


async def test_a_database_that_is_away_is_told_and_nothing_else_fails(accounts: Accounts):
    away = Database.connect("postgresql+psycopg://nobody@127.0.0.1:1/none", pool_size=1)
    settings = accounts.settings.model_copy(
        update={"admin_email": ADMIN, "admin_password": SecretStr(PASSWORD)}
    )
    lonely = build_identity(settings, away, accounts.policy, None, cost=CHEAP)
    with capture_logs() as logs:
        await lonely.registration.try_to_seed()
    assert logs[0]["event"] == "administrator_not_seeded_yet"
    await away.close()
