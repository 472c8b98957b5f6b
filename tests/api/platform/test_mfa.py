"""The second factor: set up, used in one step or two, turned off."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from pyotp.totp import TOTP

from conclave.identity.assembly import build_identity
from schema.domain.identity import Principal, PrincipalKind, Role
from tests.harness.accounts import CHEAP, PASSWORD, Accounts, error

ADA = "ada@example.org"


async def test_setting_up_shows_the_secret_and_changes_nothing_yet(accounts: Accounts):
    ada = await accounts.person(ADA)
    setup = (await accounts.post("/auth/mfa/setup", ada.access)).json()
    url = urlsplit(setup["otpauth_url"])
    assert (url.scheme, url.netloc) == ("otpauth", "totp")
    assert parse_qs(url.query)["secret"] == [setup["secret"]]
    assert len(base64.b32decode(setup["secret"])) >= 20
    kind, _, image = setup["qr_code"].partition(",")
    assert kind.startswith("data:image/svg+xml")
    assert unquote(image).startswith("<svg")
    assert (await accounts.get("/auth/me", ada.access)).json()["mfa_enabled"] is False
    assert (await accounts.login(ADA)).json()["token_type"] == "bearer"


async def test_a_secret_is_stored_sealed(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    sealed = await accounts.value("SELECT mfa_secret FROM users WHERE id = :id", id=ada.id)
    assert ada.secret.encode() not in sealed
    hashes = await accounts.value("SELECT string_agg(code_hash, ' ') FROM backup_codes")
    assert not any(code in hashes for code in ada.backup_codes)


async def test_the_first_code_turns_it_on_and_shows_ten_backup_codes(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    assert len(set(ada.backup_codes)) == 10
    assert (await accounts.get("/auth/me", ada.access)).json()["mfa_enabled"] is True
    assert error(await accounts.post("/auth/mfa/setup", ada.access)) == (409, "RES_003")
    again = await accounts.post("/auth/mfa/verify", ada.access, totp_code=accounts.code(ada))
    assert error(again) == (409, "RES_003")
    assert len(await accounts.audited("mfa_enabled")) == 1


async def test_no_setup_and_a_wrong_code_are_refused_inside_the_session(accounts: Accounts):
    ada = await accounts.person(ADA)
    none_begun = await accounts.post("/auth/mfa/verify", ada.access, totp_code="123456")
    assert error(none_begun) == (400, "AUTH_009")
    ada.secret = (await accounts.post("/auth/mfa/setup", ada.access)).json()["secret"]
    wrong = f"{(int(accounts.code(ada)) + 1) % 1_000_000:06}"
    assert error(await accounts.post("/auth/mfa/verify", ada.access, code=wrong)) == (
        400,
        "AUTH_009",
    )
    assert await accounts.is_signed_in(ada.access)


@pytest.mark.parametrize("name", ["totp_code", "code", "token"])
async def test_the_code_has_three_names(accounts: Accounts, name: str):
    ada = await accounts.person(ADA)
    ada.secret = (await accounts.post("/auth/mfa/setup", ada.access)).json()["secret"]
    enabled = await accounts.post("/auth/mfa/verify", ada.access, **{name: accounts.code(ada)})
    assert enabled.json()["mfa_enabled"] is True


async def test_the_password_of_a_setup_is_checked_where_it_is_sent(accounts: Accounts):
    ada = await accounts.person(ADA)
    wrong = await accounts.post("/auth/mfa/setup", ada.access, password="Wrong-Horse-7!")
    assert error(wrong) == (400, "AUTH_001")
    right = await accounts.post("/auth/mfa/setup", ada.access, password=PASSWORD)
    assert right.status_code == 200


async def test_a_login_in_one_step(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    answer = await accounts.login(ADA, totp_code=accounts.code(ada))
    assert await accounts.is_signed_in(answer.json()["access_token"])
    assert (await accounts.audited("login_success"))[-1]["changes"] == {"method": "totp"}


@pytest.mark.parametrize("path", ["/auth/mfa/verify", "/auth/verify-mfa"])
async def test_a_login_in_two_steps(accounts: Accounts, path: str):
    ada = await accounts.with_mfa(ADA)
    answer = (await accounts.login(ADA)).json()
    assert answer["mfa_required"] is True
    assert answer["expires_in"] == 300
    assert set(answer) == {"mfa_required", "temp_token", "expires_in"}
    tokens = await accounts.post(
        path, temp_token=answer["temp_token"], totp_code=accounts.code(ada)
    )
    assert await accounts.is_signed_in(tokens.json()["access_token"])


async def test_the_temporary_token_may_come_as_bearer(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    temp = await accounts.challenge(ada)
    tokens = await accounts.post("/auth/mfa/verify", temp, totp_code=accounts.code(ada))
    assert await accounts.is_signed_in(tokens.json()["access_token"])


async def test_without_any_token_nobody_is_verified(accounts: Accounts):
    answer = await accounts.post("/auth/mfa/verify", totp_code="123456")
    assert error(answer) == (401, "AUTH_002")


async def test_the_older_path_turns_the_factor_on_too(accounts: Accounts):
    ada = await accounts.person(ADA)
    ada.secret = (await accounts.post("/auth/mfa/setup", ada.access)).json()["secret"]
    enabled = await accounts.post("/auth/verify-mfa", ada.access, code=accounts.code(ada))
    assert len(enabled.json()["backup_codes"]) == 10


async def test_a_temporary_token_works_once_and_for_five_minutes(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    temp = await accounts.challenge(ada)
    assert (
        await accounts.post("/auth/mfa/verify", temp_token=temp, code=accounts.code(ada))
    ).status_code == 200
    accounts.clock.move(seconds=60)
    again = await accounts.post("/auth/mfa/verify", temp_token=temp, code=accounts.code(ada))
    assert again.status_code == 401
    late = await accounts.challenge(ada)
    accounts.clock.move(seconds=301)
    expired = await accounts.post("/auth/mfa/verify", temp_token=late, code=accounts.code(ada))
    assert error(expired) == (401, "AUTH_003")


async def test_five_wrong_codes_void_the_token_and_lock_the_login(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    temp, other = await accounts.challenge(ada), await accounts.challenge(ada)
    accounts.policy.set("lockout", max_attempts=7)
    for _ in range(5):
        wrong = await accounts.post("/auth/mfa/verify", temp_token=temp, code="wrong-backup")
        assert error(wrong) == (401, "AUTH_009")
    void = await accounts.post("/auth/mfa/verify", temp_token=temp, code=accounts.code(ada))
    assert error(void) == (401, "AUTH_002")
    for _ in range(2):  # a right password in between does not start the count anew
        await accounts.challenge(ada)
        await accounts.post("/auth/mfa/verify", temp_token=other, code="wrong-backup")
    assert (await accounts.login(ADA)).status_code == 423
    locked = await accounts.post("/auth/mfa/verify", temp_token=other, code=accounts.code(ada))
    assert locked.status_code == 423


async def test_wrong_codes_of_one_step_logins_lock_too(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    for _ in range(5):
        assert error(await accounts.login(ADA, totp_code="000000x")) == (401, "AUTH_009")
    assert (await accounts.login(ADA, totp_code=accounts.code(ada))).status_code == 423


@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 200), (0, 200), (1, 200), (2, 401)])
async def test_codes_of_the_steps_beside_are_taken(accounts: Accounts, steps: int, status: int):
    ada = await accounts.with_mfa(ADA)
    accounts.clock.move(seconds=90)
    answer = await accounts.login(ADA, totp_code=accounts.code(ada, steps=steps))
    assert answer.status_code == status


async def test_turning_it_off_by_a_code(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    wrong = await accounts.post("/auth/mfa/disable", ada.access, totp_code="not-a-code")
    assert error(wrong) == (400, "AUTH_009")
    password = await accounts.post(
        "/auth/mfa/disable", ada.access, totp_code=accounts.code(ada), password="Wrong-Horse-7!"
    )
    assert error(password) == (400, "AUTH_001")
    off = await accounts.post("/auth/mfa/disable", ada.access, totp_code=accounts.code(ada))
    assert off.json() == {"mfa_enabled": False}
    assert (await accounts.login(ADA)).json()["token_type"] == "bearer"
    again = await accounts.post("/auth/mfa/disable", ada.access, totp_code="123456")
    assert error(again) == (409, "RES_003")
    assert await accounts.value("SELECT count(*) FROM backup_codes") == 0
    assert len(await accounts.audited("mfa_disabled")) == 1


async def test_turning_it_off_by_a_backup_code(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    code = ada.backup_codes[0].lower().replace("-", " ")
    off = await accounts.post("/auth/mfa/disable", ada.access, totp_code=code)
    assert off.status_code == 200


async def test_guessing_codes_inside_a_session_locks(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    for _ in range(5):
        await accounts.post("/auth/mfa/disable", ada.access, totp_code="not-a-code")
    locked = await accounts.post("/auth/mfa/disable", ada.access, totp_code=accounts.code(ada))
    assert locked.status_code == 423


async def test_a_required_factor_cannot_be_turned_off(accounts: Accounts):
    ada = await accounts.with_mfa(ADA)
    accounts.policy.set("mfa", required=True)
    refused = await accounts.post("/auth/mfa/disable", ada.access, totp_code=accounts.code(ada))
    assert refused.status_code == 403


async def test_a_required_factor_limits_sessions_after_the_days_of_grace(accounts: Accounts):
    ada = await accounts.person(ADA)
    accounts.clock.move(hours=48)
    accounts.policy.set(
        "mfa", required=True, required_since=accounts.clock(), grace_period_hours=24
    )
    authenticate = accounts.identity.authenticator.authenticate
    accounts.clock.move(hours=23)
    early = await accounts.again(ada)
    assert early.tokens["mfa_setup_required"] is False
    accounts.clock.move(hours=1)
    ada = await accounts.again(ada)
    assert ada.tokens["mfa_setup_required"] is True
    assert (await authenticate(ada.access)).limited == "mfa_setup_required"
    young = await accounts.person("young@example.org")  # its own grace has just begun
    assert young.tokens["mfa_setup_required"] is False
    ada.secret = (await accounts.post("/auth/mfa/setup", ada.access)).json()["secret"]
    await accounts.post("/auth/mfa/verify", ada.access, totp_code=accounts.code(ada))
    assert (await authenticate(ada.access)).limited is None


async def test_without_an_encryption_key_the_setup_says_what_is_missing(accounts: Accounts):
    ada = await accounts.person(ADA)
    identity = build_identity(accounts.settings, accounts.db, accounts.policy, None, cost=CHEAP)
    principal = Principal(kind=PrincipalKind.USER, id=ada.id, user_id=ada.id, role=Role.ADMIN)
    with pytest.raises(Exception, match="ENCRYPTION_KEY") as refused:
        await identity.second_factor.set_up(principal, None)
    assert getattr(refused.value, "status", None) == 503
    identity.close()


def test_the_codes_of_the_tests_are_those_of_the_standard():
    # RFC 6238, appendix B, cut to six digits.
    secret = base64.b32encode(b"12345678901234567890").decode()
    assert TOTP(secret).at(1111111109) == "081804"
