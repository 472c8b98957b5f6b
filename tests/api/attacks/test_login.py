"""Attacks on signing in: guessing, replaying codes, asking who has an account, smuggling fields."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import pytest

from conclave.db import Transaction
from conclave.identity.assembly import build_identity
from conclave.identity.commands import Login
from conclave.identity.errors import InvalidCredentials
from conclave.identity.passwords import Argon2Cost
from conclave.identity.shapes import Account
from schema.domain.identity import Principal
from schema.domain.users import User
from tests.harness.accounts import PASSWORD, Accounts

ADA, BOB, NOBODY = "ada@example.org", "bob@example.org", "nobody@example.org"
WRONG = "Wrong-Horse-7!"


def without_id(answer) -> dict[str, Any]:
    return {key: value for key, value in answer.json().items() if key != "request_id"}


# Who has an account


async def test_answers_do_not_tell_who_has_an_account(accounts: Accounts):
    await accounts.person(ADA)
    bob = await accounts.person(BOB)
    await accounts.execute("UPDATE users SET is_active = false WHERE id = :id", id=bob.id)
    answers = [await accounts.login(email, WRONG) for email in (ADA, BOB, NOBODY)]
    assert {answer.status_code for answer in answers} == {401}
    assert without_id(answers[0]) == without_id(answers[1]) == without_id(answers[2])
    assert len({frozenset(answer.headers) for answer in answers}) == 1


async def test_an_address_without_an_account_is_locked_like_any_other(accounts: Accounts):
    await accounts.person(ADA)
    for email in (ADA, NOBODY):
        for _ in range(5):
            assert (await accounts.login(email, WRONG)).status_code == 401
    locked = [await accounts.login(email, WRONG) for email in (ADA, NOBODY)]
    assert [answer.status_code for answer in locked] == [423, 423]
    assert without_id(locked[0]) == without_id(locked[1])


async def test_the_time_does_not_tell_who_has_an_account(accounts: Accounts):
    """Medians of interleaved tries, compared with each other, never with a clock."""
    accounts.policy.set("lockout", max_attempts=100)
    identity = build_identity(
        accounts.settings,
        accounts.db,
        accounts.policy,
        None,
        cost=Argon2Cost(time_cost=2, memory_kib=19_456, parallelism=1),
    )
    ada = Login(email=ADA, password=WRONG)
    made = await accounts.post("/auth/register", email=ADA, password=PASSWORD)
    assert made.status_code == 201
    # The stored hash is to cost what the dummy one costs.
    await identity.logins.log_in(Login(email=ADA, password=PASSWORD))
    times: dict[str, list[float]] = {ADA: [], NOBODY: []}
    for _ in range(15):
        for command in (ada, Login(email=NOBODY, password=WRONG)):
            started = time.perf_counter()
            with pytest.raises(InvalidCredentials):
                await identity.logins.log_in(command)
            times[command.email].append(time.perf_counter() - started)
    identity.close()
    ratio = statistics.median(times[ADA]) / statistics.median(times[NOBODY])
    assert 0.5 < ratio < 2


# Guessing


@pytest.mark.parametrize("has_second_factor", [False, True])
async def test_guesses_at_once_are_locked_like_guesses_in_turn(
    accounts: Accounts, *, has_second_factor: bool
):
    """Nor does being asked for the second factor tell that the password was right."""
    await (accounts.with_mfa(ADA) if has_second_factor else accounts.person(ADA))
    guesses = [WRONG] * 30 + [PASSWORD]
    answers = await asyncio.gather(*(accounts.login(ADA, guess) for guess in guesses))
    assert [answer.status_code for answer in answers].count(200) == 0
    assert [answer.status_code for answer in answers].count(401) <= 5
    assert await accounts.value("SELECT failures FROM login_attempts") >= 5


async def test_of_codes_guessed_at_once_inside_a_session_five_are_looked_at(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
):
    ada = await accounts.with_mfa(ADA)
    accept, judged = accounts.identity.second_factor.accept, list[str]()

    async def noted(tx: Transaction, account: Account, code: str) -> str | None:
        judged.append(code)
        return await accept(tx, account, code)

    monkeypatch.setattr(accounts.identity.second_factor, "accept", noted)
    guesses = [accounts.post("/auth/mfa/disable", ada.access, totp_code="no") for _ in range(40)]
    answers = await asyncio.gather(*guesses)
    assert {answer.status_code for answer in answers} == {400, 423}
    assert len(judged) == 5


async def test_spelling_an_address_differently_does_not_start_a_new_count(accounts: Accounts):
    await accounts.person(ADA)
    for email in (ADA, ADA.upper(), f" {ADA}", "Ada@Example.org", "aDA@example.ORG"):
        assert (await accounts.login(email, WRONG)).status_code == 401
    assert (await accounts.login(ADA)).status_code == 423


async def test_guessing_while_locked_does_not_lock_for_longer(accounts: Accounts):
    await accounts.person(ADA)
    for _ in range(5):
        await accounts.login(ADA, WRONG)
    accounts.clock.move(minutes=10)
    for _ in range(5):
        assert (await accounts.login(ADA, WRONG)).status_code == 423
    accounts.clock.move(minutes=5, seconds=1)
    assert (await accounts.login(ADA)).status_code == 200


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register"])
async def test_an_oversized_password_is_refused_before_it_costs_anything(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch, path: str
):
    async def never(*_: object) -> bool:
        raise AssertionError("hashed")

    monkeypatch.setattr(accounts.identity.hasher, "matches", never)
    monkeypatch.setattr(accounts.identity.hasher, "hash", never)
    refused = await accounts.post(path, email=ADA, password="Aa1!" * 33)
    assert refused.status_code == 422
    assert "Aa1!" not in refused.text


async def test_an_address_that_changes_meanwhile_still_needs_the_password(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
):
    """It looks unchanged when the request comes in, and is another one once it is stored."""
    ada = await accounts.person(ADA)
    service = accounts.identity.accounts
    look = service.me

    async def changed_meanwhile(principal: Principal) -> User:
        found = await look(principal)
        await accounts.execute("UPDATE users SET email = 'new@example.org'")
        return found

    monkeypatch.setattr(service, "me", changed_meanwhile)
    refused = await accounts.call("PUT", "/auth/me", ada.access, email=ADA)
    assert (refused.status_code, refused.json()["error_code"]) == (400, "AUTH_001")
    assert await accounts.value("SELECT email FROM users") == "new@example.org"


# Replaying


async def test_a_code_works_once(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    code = accounts.code(ada)
    assert (await accounts.login(ADA, totp_code=code)).status_code == 200
    replayed = await accounts.login(ADA, totp_code=code)
    assert (replayed.status_code, replayed.json()["error_code"]) == (401, "AUTH_009")
    older = accounts.code(ada, steps=-1)
    assert (await accounts.login(ADA, totp_code=older)).status_code == 401
    assert (await accounts.post("/auth/mfa/disable", ada.access, totp_code=code)).status_code == 400


async def test_the_code_that_turned_the_factor_on_signs_nobody_in(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    enabling = accounts.code(ada, steps=-1)
    assert (await accounts.login(ADA, totp_code=enabling)).status_code == 401


async def test_of_logins_at_once_with_one_code_one_alone_wins(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    accounts.policy.set("lockout", max_attempts=100)
    code = accounts.code(ada)
    answers = await asyncio.gather(*(accounts.login(ADA, totp_code=code) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, *[401] * 5]


async def test_a_backup_code_works_once_in_any_spelling(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    accounts.policy.set("lockout", max_attempts=100)
    code = ada.backup_codes[3]
    answers = await asyncio.gather(
        *(accounts.login(ADA, totp_code=one) for one in (code, code.lower(), code.replace("-", "")))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401]
    assert (await accounts.login(ADA, totp_code=ada.backup_codes[4])).status_code == 200


async def test_codes_of_another_user_open_nothing(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    bob = await accounts.with_mfa(BOB)
    assert (await accounts.login(ADA, totp_code=bob.backup_codes[0])).status_code == 401
    assert (await accounts.login(ADA, totp_code=accounts.code(bob))).status_code == 401
    temp = await accounts.challenge(ada)
    wrong = await accounts.post("/auth/mfa/verify", temp_token=temp, code=accounts.code(bob))
    assert wrong.status_code == 401


async def test_a_secret_moved_to_another_user_does_not_open(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    await accounts.with_mfa(BOB)
    await accounts.execute(
        "UPDATE users SET mfa_secret = (SELECT mfa_secret FROM users WHERE email = :ada)"
        " WHERE email = :bob",
        ada=ADA,
        bob=BOB,
    )
    assert (await accounts.login(BOB, totp_code=accounts.code(ada))).status_code == 503


# Smuggling

SMUGGLED = {
    "id": 77,
    "role": "admin",
    "is_active": False,
    "mfa_enabled": True,
    "permissions": ["users:manage"],
    "password_hash": "x",
    "created_at": "2001-01-01T00:00:00Z",
    "deleted_at": "2001-01-01T00:00:00Z",
}


async def test_fields_that_are_not_offered_change_nothing(accounts: Accounts):
    await accounts.person(ADA)
    made = await accounts.post("/auth/register", email=BOB, password=PASSWORD, **SMUGGLED)
    bob = made.json()
    assert (bob["id"], bob["role"], bob["is_active"]) == (2, "operator", True)
    assert not bob["created_at"].startswith("2001")
    tokens = (await accounts.login(BOB)).json()
    put = await accounts.call(
        "PUT", "/auth/me", tokens["access_token"], **SMUGGLED, password="Other-Horse-7!"
    )
    assert put.status_code == 200
    me = (await accounts.get("/auth/me", tokens["access_token"])).json()
    assert (me["id"], me["role"], me["is_active"], me["mfa_enabled"]) == (
        2,
        "operator",
        True,
        False,
    )
    assert "users:manage" not in me["permissions"]
    assert (await accounts.login(BOB)).status_code == 200


@pytest.mark.parametrize(
    "name",
    ["Ada\r\nX-Admin: yes", "Ada\nLovelace", "Ada\x1b[31m", "Ada\u202egro", "Ada\u2028x", "a\x00b",
     " ", "x" * 256],
)  # fmt: skip
async def test_names_cannot_break_a_line_or_hide(accounts: Accounts, name: str):
    made = await accounts.post("/auth/register", email=ADA, password=PASSWORD, full_name=name)
    assert made.status_code == 422
    assert made.json()["details"]["errors"][0]["field"] == "body.full_name"


async def test_a_user_agent_is_kept_without_what_does_not_print(accounts: Accounts):
    ada = await accounts.person(ADA)
    await accounts.client.post(
        "/api/v1/auth/login",
        json={"email": ADA, "password": PASSWORD},
        headers={"User-Agent": "x\tlie" + "y" * 600},
    )
    rows = (await accounts.get("/security/sessions", ada.access)).json()
    assert rows[0]["user_agent"] == "xlie" + "y" * 508


async def test_secrets_stand_in_no_audit_entry_and_no_error(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    await accounts.login(ADA, WRONG)
    await accounts.login(ADA, totp_code=ada.backup_codes[0])
    entries = await accounts.value("SELECT string_agg(e::text, ' ') FROM audit_entries e")
    for secret in (PASSWORD, WRONG, ada.secret, ada.access, ada.refresh, *ada.backup_codes):
        assert secret not in entries
