"""/api/v1/auth: tokens refreshed, sessions that end."""

from __future__ import annotations

import asyncio

from tests.harness.accounts import Accounts, error

ADA, BOB = "ada@example.org", "bob@example.org"


# Refreshing


async def test_refreshing_answers_another_pair_and_kills_the_old_token(accounts: Accounts):
    ada = await accounts.person(ADA)
    fresh = (await accounts.post("/auth/refresh", refresh_token=ada.refresh)).json()
    assert await accounts.is_signed_in(fresh["access_token"])
    assert await accounts.is_signed_in(ada.access)  # an access token lives its time
    assert error(await accounts.post("/auth/refresh", refresh_token=ada.refresh)) == (
        401,
        "AUTH_010",
    )
    # Within ten seconds that is all that happens.
    assert await accounts.is_signed_in(fresh["access_token"])
    assert (
        await accounts.post("/auth/refresh", refresh_token=fresh["refresh_token"])
    ).status_code == 200


async def test_of_refreshes_at_once_one_alone_wins(accounts: Accounts):
    ada = await accounts.person(ADA)
    answers = await asyncio.gather(
        *(accounts.post("/auth/refresh", refresh_token=ada.refresh) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[401] * 7]
    winner = next(answer for answer in answers if answer.status_code == 200).json()
    assert await accounts.is_signed_in(winner["access_token"])
    assert await accounts.audited("refresh_reuse") == []


async def test_a_refresh_token_lasts_as_long_as_the_policy_says(accounts: Accounts):
    ada = await accounts.person(ADA)
    accounts.clock.move(days=6, hours=23)
    fresh = (await accounts.post("/auth/refresh", refresh_token=ada.refresh)).json()
    accounts.clock.move(days=7)
    expired = await accounts.post("/auth/refresh", refresh_token=fresh["refresh_token"])
    assert error(expired) == (401, "AUTH_010")


# Sessions


async def test_access_tokens_expire(accounts: Accounts):
    ada = await accounts.person(ADA)
    accounts.clock.move(minutes=29)
    assert await accounts.is_signed_in(ada.access)
    accounts.clock.move(minutes=1)
    assert error(await accounts.get("/auth/me", ada.access)) == (401, "AUTH_003")


async def test_logging_out_ends_the_session_at_once(accounts: Accounts):
    ada = await accounts.person(ADA)
    other = await accounts.again(ada)
    assert (await accounts.post("/auth/logout", ada.access)).status_code == 200
    assert error(await accounts.get("/auth/me", ada.access)) == (401, "AUTH_004")
    assert (await accounts.post("/auth/refresh", refresh_token=ada.refresh)).status_code == 401
    assert await accounts.is_signed_in(other.access)
    assert len(await accounts.audited("logout")) == 1


async def test_logging_out_ends_the_session_of_a_refresh_token_too(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    other = await accounts.again(ada)
    await accounts.post("/auth/logout", ada.access, refresh_token=other.refresh)
    assert not await accounts.is_signed_in(other.access)
    again = await accounts.again(ada)
    await accounts.post("/auth/logout", again.access, refresh_token=bob.refresh)
    assert await accounts.is_signed_in(bob.access)


async def test_logging_out_everywhere(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    others = [await accounts.again(ada) for _ in range(2)]
    await accounts.post("/auth/logout", ada.access, all_sessions=True)
    assert not any([await accounts.is_signed_in(one.access) for one in (ada, *others)])
    assert await accounts.is_signed_in(bob.access)


async def test_a_session_lasts_no_longer_than_the_policy_says(accounts: Accounts):
    accounts.policy.set("session", max_duration_hours=1, access_token_minutes=50)
    ada = await accounts.person(ADA)
    accounts.clock.move(minutes=45)
    fresh = (await accounts.post("/auth/refresh", refresh_token=ada.refresh)).json()
    assert fresh["expires_in"] <= 15 * 60
    accounts.clock.move(minutes=15)
    assert not await accounts.is_signed_in(fresh["access_token"])
    assert (
        await accounts.post("/auth/refresh", refresh_token=fresh["refresh_token"])
    ).status_code == 401


async def test_a_shorter_duration_ends_sessions_at_once(accounts: Accounts):
    accounts.policy.set("session", access_token_minutes=90)
    ada = await accounts.person(ADA)
    accounts.clock.move(minutes=70)
    assert await accounts.is_signed_in(ada.access)
    accounts.policy.set("session", max_duration_hours=1)
    assert error(await accounts.get("/auth/me", ada.access)) == (401, "AUTH_003")


async def test_an_idle_session_ends_and_a_used_one_stays(accounts: Accounts):
    accounts.policy.set("session", idle_timeout_minutes=10, access_token_minutes=60)
    used = await accounts.person(ADA)
    idle = await accounts.again(used)
    for _ in range(3):
        accounts.clock.move(minutes=4)
        assert await accounts.is_signed_in(used.access)
    assert error(await accounts.get("/auth/me", idle.access)) == (401, "AUTH_003")
    assert not await accounts.is_signed_in(idle.access)  # asking does not wake it
    assert (await accounts.post("/auth/refresh", refresh_token=idle.refresh)).status_code == 401


async def test_the_last_use_is_written_once_a_minute(accounts: Accounts):
    ada = await accounts.person(ADA)
    last_use = "SELECT last_active_at FROM user_sessions"
    begun = await accounts.value(last_use)
    await accounts.is_signed_in(ada.access)
    assert await accounts.value(last_use) == begun
    accounts.clock.move(seconds=61)
    await accounts.is_signed_in(ada.access)
    assert (await accounts.value(last_use) - begun).total_seconds() >= 61


async def test_too_many_sessions_end_the_oldest(accounts: Accounts):
    ada = await accounts.person(ADA)
    accounts.policy.set("session", max_concurrent_sessions=2)
    second = await accounts.again(ada)
    third = await accounts.again(ada)
    assert [await accounts.is_signed_in(one.access) for one in (ada, second, third)] == [
        False,
        True,
        True,
    ]
    assert (await accounts.audited("session_revoked"))[0]["changes"] == {
        "reason": "too_many_sessions"
    }
