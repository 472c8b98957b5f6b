"""What holds is asked of the record; what is over is cleaned away."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from conclave.db import Database
from conclave.errors import Unavailable
from conclave.identity.assembly import build_identity
from conclave.identity.commands import Login
from conclave.identity.errors import AccountLocked
from conclave.identity.upkeep import IdentityUpkeep
from schema.domain.security import LockoutPolicy
from tests.harness.accounts import CHEAP, PASSWORD, Accounts

ADA = "ada@example.org"


async def test_a_token_opens_nothing_while_the_record_is_away(accounts: Accounts):
    ada = await accounts.person(ADA)
    away = Database.connect("postgresql+psycopg://nobody@127.0.0.1:1/none", pool_size=1)
    lonely = build_identity(accounts.settings, away, accounts.policy, None, cost=CHEAP)
    with pytest.raises(Unavailable):
        await lonely.authenticator.authenticate(ada.access)
    await away.close()


async def test_processes_that_count_at_once_count_right(accounts: Accounts):
    accounts.policy.set("lockout", max_attempts=50)
    processes = [
        build_identity(accounts.settings, accounts.db, accounts.policy, None, cost=CHEAP)
        for _ in range(2)
    ]

    async def fail(number: int) -> None:
        lockout = processes[number % 2].logins._lockout
        async with accounts.db.transaction() as tx:
            await lockout.failed(tx, ADA, LockoutPolicy(max_attempts=50), None)

    await asyncio.gather(*(fail(number) for number in range(30)))
    assert await accounts.value("SELECT failures FROM login_attempts") == 30


async def test_a_success_that_comes_after_the_lock_does_not_lift_it(accounts: Accounts):
    lockout = accounts.identity.logins._lockout
    async with accounts.db.transaction() as tx:
        for _ in range(5):
            await lockout.failed(tx, ADA, LockoutPolicy(), None)
    with pytest.raises(AccountLocked):
        async with accounts.db.transaction() as tx:
            await lockout.succeeded(tx, ADA)
    async with accounts.db.transaction() as tx:
        await lockout.succeeded(tx, "bob@example.org")
        await lockout.lift(tx, ADA)
        await lockout.check(tx, ADA)


async def test_purging_deletes_what_is_over_in_batches_and_nothing_else(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    for _ in range(7):
        await accounts.login(ADA, totp_code=accounts.code(ada))
        accounts.clock.move(seconds=30)
        await accounts.challenge(ada)
    await accounts.login("nobody@example.org", "Wrong-Horse-7!")
    accounts.clock.move(days=8)
    live = (await accounts.login(ADA, totp_code=accounts.code(ada))).json()
    await accounts.login("somebody@example.org", "Wrong-Horse-7!")
    upkeep = IdentityUpkeep(accounts.db, batch=3)
    assert await upkeep.purge(accounts.clock()) >= 8 + 8 + 7 + 1
    assert await upkeep.purge(accounts.clock()) == 0
    assert await accounts.value("SELECT count(*) FROM user_sessions") == 1
    assert await accounts.value("SELECT count(*) FROM refresh_tokens") == 1
    assert await accounts.value("SELECT count(*) FROM mfa_challenges") == 0
    assert await accounts.value("SELECT email FROM login_attempts") == "somebody@example.org"
    assert await accounts.is_signed_in(live["access_token"])


async def test_a_lock_is_not_purged_while_it_holds(accounts: Accounts):
    accounts.policy.set("lockout", max_attempts=1, window_minutes=1, lockout_minutes=1440)
    await accounts.login(ADA, "Wrong-Horse-7!")
    await accounts.identity.upkeep.purge(accounts.clock() + timedelta(hours=23))
    assert (await accounts.login(ADA, PASSWORD)).status_code == 423


async def test_a_hash_of_another_cost_is_renewed_by_the_next_login(accounts: Accounts):
    ada = await accounts.person(ADA)
    dearer = build_identity(
        accounts.settings,
        accounts.db,
        accounts.policy,
        None,
        cost=type(CHEAP)(time_cost=2, memory_kib=128, parallelism=1),
    )
    stored = "SELECT password_hash FROM users"
    await dearer.logins.log_in(Login(email=ADA, password=PASSWORD))
    assert "m=128,t=2,p=1" in await accounts.value(stored)
    assert await accounts.is_signed_in(ada.access)
    dearer.close()
