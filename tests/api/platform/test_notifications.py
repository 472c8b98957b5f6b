"""/api/v1/notifications: the caller's own, and nobody else's."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import httpx
import pytest

from conclave.container import Core
from schema.domain.notifications import Severity
from tests.harness.accounts import Accounts, Person

ADA, BOB = "ada@example.org", "bob@example.org"


@pytest.fixture
async def ada(accounts: Accounts) -> Person:
    return await accounts.person(ADA)


@pytest.fixture
async def bob(accounts: Accounts, ada: Person) -> Person:
    return await accounts.person(BOB)


async def tell(core: Core, title: str = "Hello", **more: Any) -> list[int]:
    async with core.db.transaction() as tx:
        return await core.notifications.notify(tx, title=title, message="world", **more)


async def listed(accounts: Accounts, person: Person, query: str = "") -> list[dict[str, Any]]:
    answer = await accounts.get(f"/notifications{query}", person.access)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def unread(accounts: Accounts, person: Person) -> int:
    answer = await accounts.get("/notifications/unread-count", person.access)
    assert answer.status_code == 200
    assert answer.json() == {
        "unread_count": answer.json()["count"],
        "count": answer.json()["count"],
    }
    return answer.json()["count"]


async def put(accounts: Accounts, path: str, person: Person) -> httpx.Response:
    return await accounts.call("PUT", f"/notifications/{path}", person.access)


async def test_a_user_reads_what_it_is_told(accounts: Accounts, accounts_core: Core, ada: Person):
    told = await tell(
        accounts_core,
        severity=Severity.WARNING,
        event_type="task.failed",
        user_ids=[ada.id],
        metadata={"task_id": 7},
    )
    [one] = await listed(accounts, ada)
    assert one == {
        "id": told[0], "channel": "in_app", "title": "Hello", "message": "world",
        "severity": "warning", "is_read": False, "read_at": None, "event_type": "task.failed",
        "metadata": {"task_id": 7}, "created_at": one["created_at"],
    }  # fmt: skip
    assert one["created_at"].endswith("Z")
    assert await unread(accounts, ada) == 1
    read = await put(accounts, f"{told[0]}/read", ada)
    assert read.status_code == 200
    assert read.json() == {**one, "is_read": True, "read_at": read.json()["read_at"]}
    assert (await put(accounts, f"{told[0]}/read", ada)).json() == read.json()
    assert await listed(accounts, ada) == [read.json()]
    assert await unread(accounts, ada) == 0
    assert len(await accounts.audited("notification_read")) == 1


async def test_another_users_notification_is_not_there(
    accounts: Accounts, accounts_core: Core, ada: Person, bob: Person
):
    """Ada is the administrator: that makes no difference."""
    [told] = await tell(accounts_core, user_ids=[bob.id])
    hidden = await put(accounts, f"{told}/read", ada)
    missing = await put(accounts, "987/read", ada)
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json()["detail"].replace(str(told), "N") == missing.json()["detail"].replace(
        "987", "N"
    )
    assert await listed(accounts, ada) == []
    assert (await put(accounts, "read-all", ada)).json() == {"marked_count": 0}
    assert await unread(accounts, bob) == 1


async def test_without_names_every_active_admin_and_operator_is_told(
    accounts: Accounts, accounts_core: Core, ada: Person, bob: Person
):
    viewer = await accounts.person("eve@example.org")
    gone = await accounts.person("mallory@example.org")
    for person, change in ((viewer, {"role": "viewer"}), (gone, {"is_active": False})):
        answer = await accounts.call("PATCH", f"/admin/users/{person.id}", ada.access, **change)
        assert answer.status_code == 200
    await tell(accounts_core)
    rows = [await listed(accounts, person) for person in (ada, bob, viewer)]
    assert [len(row) for row in rows] == [1, 1, 0]
    assert await accounts.value("SELECT count(*) FROM notifications") == 2


async def test_users_that_do_not_exist_are_left_out(accounts_core: Core, ada: Person):
    assert len(await tell(accounts_core, user_ids=[ada.id, 999, ada.id])) == 1
    assert await tell(accounts_core, user_ids=[]) == []


async def test_lists_are_filtered_and_paged_newest_first(
    accounts: Accounts, accounts_core: Core, ada: Person
):
    ids = [(await tell(accounts_core, str(n), user_ids=[ada.id]))[0] for n in range(3)]
    [loud] = await tell(accounts_core, severity=Severity.CRITICAL, user_ids=[ada.id])
    await put(accounts, f"{ids[0]}/read", ada)

    async def seen(query: str) -> list[int]:
        return [one["id"] for one in await listed(accounts, ada, query)]

    assert await seen("") == [loud, *reversed(ids)]
    assert await seen("?unread=true") == [loud, ids[2], ids[1]]
    assert await seen("?unread=false") == [ids[0]]
    assert await seen("?severity=critical") == [loud]
    assert await seen("?limit=2&skip=1") == [ids[2], ids[1]]
    answer = await accounts.get("/notifications?limit=1&unread=true", ada.access)
    assert answer.headers["x-total-count"] == "3"
    for query in ("?severity=loud", "?unread=perhaps", "?limit=201"):
        refused = await accounts.get(f"/notifications{query}", ada.access)
        assert refused.status_code == 422, query


async def test_all_are_marked_as_read_once(accounts: Accounts, accounts_core: Core, ada: Person):
    for _ in range(3):
        await tell(accounts_core, user_ids=[ada.id])
    answers = await asyncio.gather(*(put(accounts, "read-all", ada) for _ in range(4)))
    assert sorted(answer.json()["marked_count"] for answer in answers) == [0, 0, 0, 3]
    assert await unread(accounts, ada) == 0
    assert all(one["is_read"] for one in await listed(accounts, ada))


async def test_what_is_too_long_is_cut(accounts: Accounts, accounts_core: Core, ada: Person):
    await tell(accounts_core, "x" * 500, user_ids=[ada.id])
    [one] = await listed(accounts, ada)
    assert one["title"] == "x" * 254 + "…"


async def test_nothing_is_told_of_what_was_rolled_back(
    accounts: Accounts, accounts_core: Core, ada: Person
):
    with suppress(ZeroDivisionError):
        async with accounts_core.db.transaction() as tx:
            await accounts_core.notifications.notify(tx, title="t", message="m")
            raise ZeroDivisionError
    assert await listed(accounts, ada) == []
    assert await accounts.value("SELECT count(*) FROM events WHERE type = 'notification'") == 0


async def test_a_caller_that_is_no_user_has_none(
    accounts: Accounts, accounts_core: Core, ada: Person
):
    await tell(accounts_core)
    gateway = {"authorization": "Bearer gateway-token-of-these-tests"}
    client = accounts.client
    assert (await client.get("/api/v1/notifications", headers=gateway)).json() == []
    count = await client.get("/api/v1/notifications/unread-count", headers=gateway)
    assert count.json() == {"unread_count": 0, "count": 0}
    all_read = await client.put("/api/v1/notifications/read-all", headers=gateway)
    assert all_read.json() == {"marked_count": 0}
    assert (await client.put("/api/v1/notifications/1/read", headers=gateway)).status_code == 404
    assert await unread(accounts, ada) == 1
