"""Accounts as administrators handle them, and the sessions that are open."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.accounts import OTHER_PASSWORD, PASSWORD, Accounts, error

ADA, BOB, EVE = "ada@example.org", "bob@example.org", "eve@example.org"


async def test_a_user_that_is_created_can_sign_in(accounts: Accounts):
    ada = await accounts.person(ADA)
    made = await accounts.post(
        "/admin/users", ada.access, email=BOB.upper(), password=PASSWORD, full_name="Bob"
    )
    assert made.status_code == 201
    assert (made.json()["email"], made.json()["role"]) == (BOB, "viewer")
    assert (await accounts.login(BOB)).status_code == 200
    told = (await accounts.audited("user_created"))[0]
    assert (told["actor_id"], told["changes"]) == (ada.id, {"email": BOB, "role": "viewer"})


async def test_creating_refuses_weak_passwords_taken_emails_and_missing_names(accounts: Accounts):
    ada = await accounts.person(ADA)

    async def create(**fields: object):
        body = {"email": BOB, "password": PASSWORD, "full_name": "Bob", **fields}
        return await accounts.post("/admin/users", ada.access, **body)

    assert error(await create(password="Password123!")) == (400, "AUTH_011")
    assert error(await create(email=ADA)) == (409, "RES_002")
    for fields in ({"full_name": ""}, {"role": "root"}, {"email": "bob"}, {"full_name": None}):
        assert (await create(**fields)).status_code == 422, fields


async def test_users_are_listed_newest_first_by_role_and_in_pieces(accounts: Accounts):
    ada = await accounts.person(ADA)
    for email in (BOB, EVE):
        await accounts.person(email)
    answer = await accounts.get("/admin/users", ada.access)
    assert [user["email"] for user in answer.json()] == [EVE, BOB, ADA]
    assert answer.headers["X-Total-Count"] == "3"
    piece = await accounts.get("/admin/users?limit=1&skip=1&role=operator", ada.access)
    assert [user["email"] for user in piece.json()] == [BOB]
    assert piece.headers["X-Total-Count"] == "2"
    assert (await accounts.get("/admin/users?role=root", ada.access)).status_code == 422
    assert (await accounts.get("/admin/users?limit=201", ada.access)).status_code == 422


async def test_a_role_change_holds_for_tokens_that_are_out(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    changed = await accounts.call("PATCH", f"/admin/users/{bob.id}", ada.access, role="viewer")
    assert changed.json()["role"] == "viewer"
    me = (await accounts.get("/auth/me", bob.access)).json()
    assert me["role"] == "viewer"
    assert "agents:create" not in me["permissions"]
    assert (await accounts.audited("user_updated"))[0]["changes"] == {
        "role": {"before": "operator", "after": "viewer"}
    }


async def test_disabling_ends_sessions_for_good(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    path = f"/admin/users/{bob.id}"
    disabled = await accounts.call("PATCH", path, ada.access, is_active=False)
    assert disabled.json()["is_active"] is False
    assert error(await accounts.get("/auth/me", bob.access)) == (403, "AUTH_007")
    await accounts.call("PATCH", path, ada.access, is_active=True)
    assert error(await accounts.get("/auth/me", bob.access)) == (401, "AUTH_004")
    assert (await accounts.post("/auth/refresh", refresh_token=bob.refresh)).status_code == 401
    assert (await accounts.login(BOB)).status_code == 200


@pytest.mark.parametrize("change", [{"role": "operator"}, {"is_active": False}])
async def test_the_last_administrator_stays(accounts: Accounts, change: dict[str, object]):
    ada = await accounts.person(ADA)
    path = f"/admin/users/{ada.id}"
    refused = await accounts.call("PATCH", path, ada.access, **change)
    assert error(refused) == (409, "RES_003")
    bob = await accounts.person(BOB)
    await accounts.call("PATCH", f"/admin/users/{bob.id}", ada.access, role="admin")
    assert (await accounts.call("PATCH", path, ada.access, **change)).status_code == 200


async def test_two_administrators_that_demote_each_other_at_once_leave_one(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    await accounts.call("PATCH", f"/admin/users/{bob.id}", ada.access, role="admin")
    answers = await asyncio.gather(
        accounts.call("PATCH", f"/admin/users/{bob.id}", ada.access, role="viewer"),
        accounts.call("PATCH", f"/admin/users/{ada.id}", bob.access, role="viewer"),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_password_set_by_an_administrator_ends_the_users_sessions(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    for _ in range(5):
        await accounts.login(BOB, "Wrong-Horse-7!")
    path = f"/admin/users/{bob.id}"
    weak = await accounts.call("PATCH", path, ada.access, password="Password123!")
    assert error(weak) == (400, "AUTH_011")
    changed = await accounts.call("PATCH", path, ada.access, password=OTHER_PASSWORD)
    assert changed.status_code == 200
    assert not await accounts.is_signed_in(bob.access)
    assert (await accounts.login(BOB, OTHER_PASSWORD)).status_code == 200  # the lock is gone too


async def test_changes_of_a_user_are_refused_with_their_reason(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    path = f"/admin/users/{bob.id}"
    assert error(await accounts.call("PATCH", path, ada.access, email=ADA)) == (409, "RES_002")
    for body in ({"role": None}, {"is_active": None}, {"role": "root"}, {"email": "bob"}):
        assert (await accounts.call("PATCH", path, ada.access, **body)).status_code == 422, body
    unknown = await accounts.call("PATCH", "/admin/users/99", ada.access, full_name="x")
    assert error(unknown) == (404, "RES_001")
    assert (await accounts.call("PATCH", "/admin/users/x", ada.access)).status_code == 422


async def test_live_sessions_are_listed_newest_first(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    gone = await accounts.again(bob)
    await accounts.post("/auth/logout", gone.access)
    listed = await accounts.get("/security/sessions", ada.access)
    rows = listed.json()
    assert [(row["user_email"], row["current"]) for row in rows] == [(BOB, False), (ADA, True)]
    assert rows[0]["ip_address"] == "203.0.113.9"
    assert rows[0]["user_agent"] == "tests/1"
    assert listed.headers["X-Total-Count"] == "2"
    of_bob = await accounts.get(f"/security/sessions?user_id={bob.id}", ada.access)
    assert [row["user_id"] for row in of_bob.json()] == [bob.id]
    accounts.clock.move(days=8)
    admin = await accounts.again(ada)
    rows = (await accounts.get("/security/sessions", admin.access)).json()
    assert [row["current"] for row in rows] == [True]


async def test_ending_a_session_refuses_its_tokens(accounts: Accounts):
    ada = await accounts.person(ADA)
    bob = await accounts.person(BOB)
    listed = await accounts.get(f"/security/sessions?user_id={bob.id}", ada.access)
    path = f"/security/sessions/{listed.json()[0]['id']}"
    assert (await accounts.call("DELETE", path, ada.access)).status_code == 204
    assert error(await accounts.get("/auth/me", bob.access)) == (401, "AUTH_004")
    assert error(await accounts.call("DELETE", path, ada.access)) == (404, "RES_001")
    assert (await accounts.audited("session_revoked"))[0]["actor_id"] == ada.id
