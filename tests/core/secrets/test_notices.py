"""Notices of expiry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from conclave.events import EventLog
from conclave.secrets import notices
from conclave.secrets.commands import UpdateSecret
from conclave.secrets.notices import ExpiryNotices
from schema.domain.events import Event
from schema.domain.identity import LOCAL_PRINCIPAL
from tests.core.secrets.conftest import Vault


class SilentBus:
    """Nobody listens."""

    def poke(self) -> None: ...


@pytest.fixture
def upkeep(vault: Vault) -> ExpiryNotices:
    return ExpiryNotices(vault.db, EventLog(SilentBus()))  # type: ignore[arg-type]  # all it needs


async def raised(vault: Vault) -> list[Event]:
    log = EventLog(SilentBus())  # type: ignore[arg-type]  # all it needs
    async with vault.db.transaction() as tx:
        return await log.of_stream(tx, "secrets", after_seq=0)


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


async def test_a_notice_is_raised_at_seven_days_and_at_one_each_once(
    vault: Vault, upkeep: ExpiryNotices
):
    secret = await vault.store(expires_at=in_days(6.9))
    await vault.store("later", expires_at=in_days(7.1))
    await vault.store("never")

    assert [await upkeep.run() for _ in range(3)] == [1, 0, 0]
    async with vault.db.transaction() as tx:  # days pass
        await tx.conn.execute(
            text("UPDATE secrets SET expires_at = now() + interval '20 h' WHERE name = 'db'")
        )
    assert [await upkeep.run() for _ in range(3)] == [1, 0, 0]

    first, second = await raised(vault)
    assert first.data["id"] == secret.id
    assert first.data["name"] == "db"
    assert str(first.data["expires_at"]).endswith("Z")
    assert [one.data["days_until_expiry"] for one in (first, second)] == [7, 1]
    assert {(one.type.value, one.owner) for one in (first, second)} == {
        ("secret.expiring", "admin")
    }


async def test_a_secret_first_seen_on_its_last_day_gets_one_notice(
    vault: Vault, upkeep: ExpiryNotices
):
    await vault.store(expires_at=in_days(0.5))
    assert [await upkeep.run(), await upkeep.run()] == [1, 0]


async def test_a_new_date_is_told_of_again_and_the_same_one_is_not(
    vault: Vault, upkeep: ExpiryNotices
):
    date = in_days(3)
    secret = await vault.store(expires_at=date)
    assert await upkeep.run() == 1

    await vault.service.update(secret.id, UpdateSecret(expires_at=date), LOCAL_PRINCIPAL)
    assert await upkeep.run() == 0
    await vault.service.update(secret.id, UpdateSecret(expires_at=in_days(5)), LOCAL_PRINCIPAL)
    assert await upkeep.run() == 1


async def test_expired_and_deleted_secrets_are_not_told_of(vault: Vault, upkeep: ExpiryNotices):
    await vault.store("gone", expires_at=in_days(-1))
    deleted = await vault.store("deleted", expires_at=in_days(1))
    await vault.service.delete(deleted.id)
    assert await upkeep.run() == 0


async def test_many_are_taken_in_batches(
    vault: Vault, upkeep: ExpiryNotices, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notices, "BATCH", 2)
    for number in range(5):
        await vault.store(f"s{number}", expires_at=in_days(2))
    assert [await upkeep.run() for _ in range(4)] == [2, 2, 1, 0]
