"""Signing in, refreshing, signing out, and one's own account."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from conclave.identity.errors import NoAccount
from schema.domain.identity import LOCAL_PRINCIPAL, Principal, PrincipalKind, Role, Scope
from tests.harness.accounts import GATEWAY, OTHER_PASSWORD, PASSWORD, Accounts, error

ADA, BOB = "ada@example.org", "bob@example.org"


# Accounts


async def test_the_first_account_is_an_administrator_and_later_ones_operators(accounts: Accounts):
    first = await accounts.post("/auth/register", email="  Ada@Example.ORG ", password=PASSWORD)
    second = await accounts.post(
        "/auth/register", email=BOB, password=PASSWORD, full_name="  Bob Builder "
    )
    assert first.status_code == second.status_code == 201
    ada = first.json()
    assert (ada["email"], ada["full_name"], ada["role"]) == (ADA, "ada", "admin")
    assert ada["is_active"]
    assert not ada["mfa_enabled"]
    assert ada["last_login_at"] is None
    assert ada["created_at"].endswith("Z")
    assert "password_hash" not in ada
    assert (second.json()["full_name"], second.json()["role"]) == ("Bob Builder", "operator")
    assert [entry["resource_id"] for entry in await accounts.audited("user_registered")] == [
        "1",
        "2",
    ]


async def test_two_first_registrations_at_once_make_one_administrator(accounts: Accounts):
    made = await asyncio.gather(
        *(
            accounts.post("/auth/register", email=f"u{n}@example.org", password=PASSWORD)
            for n in range(6)
        )
    )
    roles = sorted(answer.json()["role"] for answer in made)
    assert roles == ["admin", *["operator"] * 5]


async def test_one_email_registered_twice_at_once_makes_one_account(accounts: Accounts):
    made = await asyncio.gather(
        *(accounts.post("/auth/register", email=ADA, password=PASSWORD) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in made) == [201, 409, 409, 409]
    assert await accounts.value("SELECT count(*) FROM users") == 1


async def test_a_taken_email_conflicts_in_any_case(accounts: Accounts):
    await accounts.person(ADA)
    taken = await accounts.post("/auth/register", email=ADA.upper(), password=PASSWORD)
    assert error(taken) == (409, "RES_002")


@pytest.mark.parametrize("domain", ["whiteops.local", "corp.test", "a-b.example", "x.invalid"])
async def test_special_use_domains_are_fine(accounts: Accounts, domain: str):
    made = await accounts.post("/auth/register", email=f"ada@{domain}", password=PASSWORD)
    assert made.status_code == 201
    assert (await accounts.login(f"Ada@{domain}")).status_code == 200


@pytest.mark.parametrize(
    "email",
    ["ada", "ada@", "@example.org", "a b@example.org", "ada@localhost", "a@b..c", ".a@b.cd",
     "ada@example.org\r\nBcc: eve@example.org", "ada@exa\u0000mple.org", f"{'a' * 65}@b.cd",
     f"a@{'b' * 260}.cd", "<ada@example.org>", "ada@example.org,eve@example.org", "ädä@b.cd"],
)  # fmt: skip
async def test_what_is_no_email_is_refused_by_name(accounts: Accounts, email: str):
    refused = await accounts.post("/auth/register", email=email, password=PASSWORD)
    assert refused.status_code == 422
    assert refused.json()["details"]["errors"][0]["field"] == "body.email"


async def test_registration_can_be_closed(accounts: Accounts):
    accounts.policy.set("registration", enabled=False, default_role=Role.VIEWER)
    await accounts.person(ADA)  # the first one always may
    refused = await accounts.post("/auth/register", email=BOB, password=PASSWORD)
    assert error(refused) == (403, "AUTH_005")
    accounts.policy.set("registration", enabled=True)
    made = await accounts.post("/auth/register", email=BOB, password=PASSWORD)
    assert made.json()["role"] == "viewer"


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("Sh0rt-One!", "12 characters"),
        ("correct-horse-7!", "upper-case"),
        ("CORRECT-HORSE-7!", "lower-case"),
        ("Correct-Horse-!!", "digit"),
        ("CorrectHorse77x", "special"),
        ("Password123!", "common"),
        ("P@ssw0rd2024!!", "common"),
        ("!!Tr0ub4dor.lovelace.", "name of the email"),
    ],
)
async def test_a_weak_password_is_refused_with_its_flaw(
    accounts: Accounts, password: str, said: str
):
    refused = await accounts.post("/auth/register", email="lovelace@example.org", password=password)
    assert error(refused) == (400, "AUTH_011")
    flaws = refused.json()["details"]["errors"]
    assert [flaw["field"] for flaw in flaws] == ["body.password"]
    assert said in flaws[0]["message"]


async def test_all_flaws_of_a_password_are_told_at_once(accounts: Accounts):
    refused = await accounts.post("/auth/register", email=ADA, password="dragon")
    assert len(refused.json()["details"]["errors"]) == 5


# Signing in


async def test_a_login_answers_tokens_that_open_me(accounts: Accounts):
    ada = await accounts.person(ADA)
    assert ada.tokens["token_type"] == "bearer"
    assert ada.tokens["expires_in"] == 1800
    assert ada.tokens["password_expired"] is ada.tokens["mfa_setup_required"] is False
    me = (await accounts.get("/auth/me", ada.access)).json()
    assert (me["id"], me["email"], me["role"]) == (ada.id, ADA, "admin")
    assert me["last_login_at"].endswith("Z")
    assert {"users:manage", "secrets:read", "agents:create"} <= set(me["permissions"])
    told = await accounts.audited("login_success")
    assert (told[0]["actor_type"], told[0]["actor_id"]) == ("user", ada.id)
    assert told[0]["ip_address"] == "203.0.113.9"


async def test_a_wrong_pair_is_refused_and_audited(accounts: Accounts):
    await accounts.person(ADA)
    refused = await accounts.login(ADA, "Wrong-Horse-7!")
    assert error(refused) == (401, "AUTH_001")
    told = (await accounts.audited("login_failed"))[0]
    assert told["changes"] == {"email": ADA, "reason": "password"}


async def test_a_disabled_account_is_told_after_the_right_password_only(accounts: Accounts):
    await accounts.person(ADA)
    bob = await accounts.person(BOB)
    await accounts.execute("UPDATE users SET is_active = false WHERE id = :id", id=bob.id)
    assert error(await accounts.login(BOB, "Wrong-Horse-7!")) == (401, "AUTH_001")
    assert error(await accounts.login(BOB)) == (403, "AUTH_007")
    assert error(await accounts.get("/auth/me", bob.access)) == (403, "AUTH_007")
    assert error(await accounts.post("/auth/refresh", refresh_token=bob.refresh)) == (
        401,
        "AUTH_010",
    )


async def test_five_failures_lock_even_the_right_password_for_a_while(accounts: Accounts):
    await accounts.person(ADA)
    for _ in range(5):
        assert error(await accounts.login(ADA, "Wrong-Horse-7!")) == (401, "AUTH_001")
    locked = await accounts.login(ADA)
    assert error(locked) == (423, "AUTH_006")
    assert 880 <= int(locked.headers["Retry-After"]) <= 900
    assert len(await accounts.audited("account_locked")) == 1
    accounts.clock.move(minutes=14)
    assert (await accounts.login(ADA)).status_code == 423
    accounts.clock.move(minutes=1, seconds=1)
    assert (await accounts.login(ADA)).status_code == 200


async def test_success_and_time_both_forget_failures(accounts: Accounts):
    await accounts.person(ADA)
    for _ in range(3):
        for _ in range(4):
            await accounts.login(ADA, "Wrong-Horse-7!")
        assert (await accounts.login(ADA)).status_code == 200
    for _ in range(4):
        await accounts.login(ADA, "Wrong-Horse-7!")
    accounts.clock.move(minutes=15)
    await accounts.login(ADA, "Wrong-Horse-7!")
    assert (await accounts.login(ADA)).status_code == 200


async def test_the_policy_says_how_many_failures_lock(accounts: Accounts):
    await accounts.person(ADA)
    accounts.policy.set("lockout", max_attempts=1, lockout_minutes=60)
    await accounts.login(ADA, "Wrong-Horse-7!")
    assert (await accounts.login(ADA)).headers["Retry-After"] in {"3600", "3599"}


# One's own account


async def test_a_profile_is_changed_in_part(accounts: Accounts):
    ada = await accounts.person(ADA)
    changed = await accounts.call("PUT", "/auth/me", ada.access, full_name="Ada Lovelace")
    assert changed.status_code == 200
    assert changed.json()["full_name"] == "Ada Lovelace"
    assert (await accounts.get("/auth/me", ada.access)).json()["full_name"] == "Ada Lovelace"
    told = (await accounts.audited("user_updated"))[0]
    assert told["changes"] == {"full_name": {"before": "ada", "after": "Ada Lovelace"}}


async def test_another_email_needs_the_password(accounts: Accounts):
    ada = await accounts.person(ADA)
    await accounts.person(BOB)
    new = "countess@example.org"
    without = await accounts.call("PUT", "/auth/me", ada.access, email=new)
    wrong = await accounts.call(
        "PUT", "/auth/me", ada.access, email=new, current_password="Wrong-Horse-7!"
    )
    assert error(without) == error(wrong) == (400, "AUTH_001")
    taken = await accounts.call("PUT", "/auth/me", ada.access, email=BOB, current_password=PASSWORD)
    assert error(taken) == (409, "RES_002")
    same = await accounts.call("PUT", "/auth/me", ada.access, email=ADA.upper())
    assert same.status_code == 200
    changed = await accounts.call(
        "PUT", "/auth/me", ada.access, email=new, current_password=PASSWORD
    )
    assert changed.json()["email"] == new
    assert (await accounts.login(ADA)).status_code == 401
    assert (await accounts.login(new)).status_code == 200


@pytest.mark.parametrize("field", ["full_name", "email"])
async def test_a_null_where_nothing_can_be_cleared_is_refused(accounts: Accounts, field: str):
    ada = await accounts.person(ADA)
    assert (await accounts.call("PUT", "/auth/me", ada.access, **{field: None})).status_code == 422


async def test_changing_the_password_ends_the_other_sessions(accounts: Accounts):
    ada = await accounts.person(ADA)
    other = await accounts.again(ada)
    changed = await accounts.post(
        "/auth/change-password",
        ada.access,
        current_password=PASSWORD,
        new_password=OTHER_PASSWORD,
    )
    assert changed.status_code == 200
    assert changed.json()["detail"]
    assert await accounts.is_signed_in(ada.access)
    assert not await accounts.is_signed_in(other.access)
    assert (await accounts.login(ADA)).status_code == 401
    assert (await accounts.login(ADA, OTHER_PASSWORD)).status_code == 200
    assert len(await accounts.audited("password_changed")) == 1


async def test_a_password_change_is_refused_with_its_reason(accounts: Accounts):
    ada = await accounts.person(ADA)

    async def change(current: str, new: str):
        return await accounts.post(
            "/auth/change-password", ada.access, current_password=current, new_password=new
        )

    assert error(await change("Wrong-Horse-7!", OTHER_PASSWORD)) == (400, "AUTH_001")
    weak = await change(PASSWORD, "Password123!")
    assert error(weak) == (400, "AUTH_011")
    assert weak.json()["details"]["errors"][0]["field"] == "body.new_password"
    assert error(await change(PASSWORD, PASSWORD)) == (400, "AUTH_012")
    assert await accounts.is_signed_in(ada.access)


async def test_as_many_passwords_are_remembered_as_the_policy_says(accounts: Accounts):
    ada = await accounts.person(ADA)
    accounts.policy.set("password_policy", history_count=3)
    passwords = [PASSWORD, *(f"Battery-Staple-{n}?" for n in range(1, 5))]

    async def change(current: str, new: str) -> int:
        answer = await accounts.post(
            "/auth/change-password", ada.access, current_password=current, new_password=new
        )
        return answer.status_code

    for current, new in itertools.pairwise(passwords):
        assert await change(current, new) == 200
    assert [await change(passwords[4], old) for old in passwords[2:]] == [400, 400, 400]
    assert await change(passwords[4], passwords[1]) == 200
    accounts.policy.set("password_policy", history_count=0)
    assert await change(passwords[1], passwords[1]) == 200


async def test_an_old_password_limits_the_session_until_it_is_changed(accounts: Accounts):
    ada = await accounts.person(ADA)
    accounts.policy.set("password_policy", max_age_days=30)
    accounts.clock.move(days=31)
    ada = await accounts.again(ada)
    assert ada.tokens["password_expired"] is True
    principal = await accounts.identity.authenticator.authenticate(ada.access)
    assert principal.limited == "password_expired"
    await accounts.post(
        "/auth/change-password",
        ada.access,
        current_password=PASSWORD,
        new_password=OTHER_PASSWORD,
    )
    principal = await accounts.identity.authenticator.authenticate(ada.access)
    assert principal.limited is None


async def test_guessing_the_password_inside_a_session_is_locked_apart(accounts: Accounts):
    ada = await accounts.person(ADA)
    for n in range(5):
        refused = await accounts.post(
            "/auth/change-password",
            ada.access,
            current_password=f"Wrong-Horse-{n}!",
            new_password=OTHER_PASSWORD,
        )
        assert refused.status_code == 400
    locked = await accounts.post(
        "/auth/change-password",
        ada.access,
        current_password=PASSWORD,
        new_password=OTHER_PASSWORD,
    )
    assert error(locked) == (423, "AUTH_006")
    assert (await accounts.login(ADA)).status_code == 200


# Who is no person


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/auth/me", {}),
        ("PUT", "/auth/me", {"full_name": "x"}),
        ("POST", "/auth/logout", {}),
        ("POST", "/auth/mfa/setup", {}),
        ("POST", "/auth/mfa/verify", {"totp_code": "123456"}),
        ("POST", "/auth/mfa/disable", {"totp_code": "123456"}),
        (
            "POST",
            "/auth/change-password",
            {"current_password": PASSWORD, "new_password": OTHER_PASSWORD},
        ),
    ],
)
async def test_the_gateway_token_has_no_account(
    accounts: Accounts, method: str, path: str, body: dict[str, object]
):
    refused = await accounts.call(method, path, GATEWAY, **body)
    assert refused.status_code == 403
    assert refused.json()["detail"]


async def test_the_local_caller_has_no_account(accounts: Accounts):
    with pytest.raises(NoAccount, match="no account"):
        await accounts.identity.accounts.me(LOCAL_PRINCIPAL)


async def test_an_api_key_sees_its_owner_and_changes_nothing(accounts: Accounts):
    ada = await accounts.person(ADA)
    key = "conclave_" + "k" * 43
    accounts.api_keys.known[key] = Principal(
        kind=PrincipalKind.API_KEY,
        id=7,
        user_id=ada.id,
        role=Role.VIEWER,
        scopes=frozenset({Scope.READ}),
    )
    me = (await accounts.get("/auth/me", key)).json()
    assert me["id"] == ada.id
    assert "agents:create" not in me["permissions"]
    for method, path, body in (
        ("PUT", "/auth/me", {"full_name": "x"}),
        ("POST", "/auth/mfa/setup", {}),
        (
            "POST",
            "/auth/change-password",
            {"current_password": PASSWORD, "new_password": OTHER_PASSWORD},
        ),
    ):
        assert (await accounts.call(method, path, key, **body)).status_code == 403
    assert accounts.identity.authenticator.recognise(key) == f"user:{ada.id}"


async def test_a_stale_token_does_not_keep_anybody_from_signing_in(accounts: Accounts):
    await accounts.person(ADA)
    answer = await accounts.post("/auth/login", "stale.token.here", email=ADA, password=PASSWORD)
    assert answer.status_code == 200
