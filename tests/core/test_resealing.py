"""Sealing again under a new key while values are read and written."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections import Counter

import pytest
from sqlalchemy import text

from conclave import resealing
from conclave.container import sealed_places
from conclave.crypto import Keyring, key_id_of, new_key
from conclave.db import Database, Transaction
from conclave.resealing import Resealed, Resealer, SealedColumn, SealedValue
from schema.tables.base import Base
from schema.tables.settings import ProviderRow
from tests.core.secrets.conftest import Vault, open_vault

OLD, NEW = new_key(), new_key()
NOT_SEALED = {"secret_versions.ciphertext"}
"""Encrypted under the secrets' data keys, which are sealed themselves."""


@pytest.fixture
def before(clean_database: Database) -> Vault:
    return open_vault(clean_database, Keyring.parse(OLD))


def resealer(vault: Vault, keys: str = f"{NEW},{OLD}") -> Resealer:
    return Resealer(vault.db, Keyring.parse(keys), sealed_places())


def of(reports: list[Resealed], place: str) -> tuple[int, int, int]:
    [found] = [one for one in reports if one.place == place]
    return found.resealed, found.already, found.unreadable


async def ciphertexts(vault: Vault) -> list[bytes]:
    async with vault.db.transaction() as tx:
        rows = await tx.conn.execute(text("SELECT ciphertext FROM secret_versions ORDER BY id"))
        return [bytes(one) for one in rows.scalars()]


def test_every_binary_column_is_sealed_again_or_known_to_need_it_not():
    binary = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if column.type.python_type is bytes
    }
    assert {"secrets.data_key", "users.mfa_secret"} <= binary
    assert binary - {place.name for place in sealed_places()} == NOT_SEALED


async def test_data_keys_are_wrapped_again_and_ciphertexts_stay(
    before: Vault, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resealing, "BATCH", 2)
    secrets = [await before.store(f"s{number}", f"value {number}") for number in range(5)]
    encrypted = await ciphertexts(before)

    assert of(await resealer(before).run(), "secrets.data_key") == (5, 0, 0)

    after = open_vault(before.db, Keyring.parse(NEW))
    assert [await after.value(one) for one in secrets] == [f"value {n}" for n in range(5)]
    assert await ciphertexts(before) == encrypted
    assert of(await resealer(before).run(), "secrets.data_key") == (0, 5, 0)


async def test_provider_keys_are_sealed_again(before: Vault):
    sealed = before.keys.seal("sk-x", context="provider:openai")
    async with before.db.transaction() as tx:
        await tx.conn.execute(
            ProviderRow.__table__.insert().values(  # type: ignore[attr-defined]  # a Table
                [{"name": "openai", "api_key": sealed}, {"name": "mistral", "api_key": None}]
            )
        )
    assert of(await resealer(before).run(), "providers.api_key") == (1, 0, 0)
    async with before.db.transaction() as tx:
        rows = await tx.conn.execute(text("SELECT api_key FROM providers WHERE name = 'openai'"))
        found = bytes(rows.scalar_one())
    assert Keyring.parse(NEW).open(found, context="provider:openai") == "sk-x"


async def test_second_factors_and_settings_are_sealed_again_and_plain_settings_stay(
    before: Vault,
):
    totp = before.keys.seal("JBSWY3DP", context="users/1/mfa")
    password = b64encode(before.keys.seal("smtp", context="setting:email.smtp_password"))
    async with before.db.transaction() as tx:
        await tx.conn.execute(
            text(
                "INSERT INTO users (email, full_name, role, password_hash, mfa_secret)"
                " VALUES ('a@b', 'A', 'admin', 'h', :s)"
            ),
            {"s": totp},
        )
        await tx.conn.execute(
            text(
                "INSERT INTO settings (key, value) VALUES ('application.debug', 'true'),"
                " ('a.b', '{\"x\": 1}'), ('c.d', '{\"sealed\": \"not base64!\"}'),"
                " ('email.smtp_password', jsonb_build_object('sealed', CAST(:s AS text)))"
            ),
            {"s": password.decode()},
        )

    reports = await resealer(before).run()

    assert of(reports, "users.mfa_secret") == (1, 0, 0)
    assert of(reports, "users.mfa_pending_secret") == (0, 0, 0)
    assert of(reports, "settings.value") == (1, 0, 1)
    async with before.db.transaction() as tx:
        rows = await tx.conn.execute(text("SELECT key, value FROM settings"))
        settings = {key: value for key, value in rows}
        found = (await tx.conn.execute(text("SELECT mfa_secret FROM users"))).scalar_one()
    after = Keyring.parse(NEW)
    assert after.open(bytes(found), context="users/1/mfa") == "JBSWY3DP"
    sealed = b64decode(settings.pop("email.smtp_password")["sealed"])
    assert after.open(sealed, context="setting:email.smtp_password") == "smtp"
    assert settings == {
        "application.debug": True,
        "a.b": {"x": 1},
        "c.d": {"sealed": "not base64!"},
    }


async def test_what_cannot_be_read_is_left_and_counted(before: Vault):
    secret = await before.store()
    strange = open_vault(before.db, Keyring.parse(new_key()))
    other = await strange.store("other")

    assert of(await resealer(before).run(), "secrets.data_key") == (1, 0, 1)

    assert await strange.value(other) == "hunter2"
    assert await open_vault(before.db, Keyring.parse(NEW)).value(secret) == "hunter2"


async def test_deleted_secrets_have_nothing_to_seal(before: Vault):
    await before.service.delete((await before.store()).id)
    assert of(await resealer(before).run(), "secrets.data_key") == (0, 0, 0)


async def test_the_census_counts_rows_by_key(before: Vault):
    await before.store("a")
    await open_vault(before.db, Keyring.parse(NEW)).store("b")
    await before.store("c")
    assert await resealer(before).census() == Counter(
        {
            ("secrets.data_key", Keyring.parse(OLD).writing_key_id): 2,
            ("secrets.data_key", Keyring.parse(NEW).writing_key_id): 1,
        }
    )


class Meddling(SealedColumn):
    """Somebody else stores another value, under the old key, between the look and the write."""

    meddled = 0

    async def replace(self, tx: Transaction, value: SealedValue, sealed: bytes) -> bool:
        if self.meddled < 2:
            self.meddled += 1
            theirs = Keyring.parse(OLD).seal(f"theirs {self.meddled}", context="provider:openai")
            other = value._replace(sealed=value.sealed)
            assert await super().replace(tx, other, theirs)
        return await super().replace(tx, value, sealed)


async def test_what_somebody_changes_meanwhile_is_kept_and_sealed_again(before: Vault):
    place = Meddling(
        ProviderRow, ProviderRow.name, ProviderRow.api_key, lambda name: f"provider:{name}"
    )
    async with before.db.transaction() as tx:
        sealed = before.keys.seal("first", context="provider:openai")
        await tx.conn.execute(
            text("INSERT INTO providers (name, api_key) VALUES ('openai', :s)"), {"s": sealed}
        )
    keys = Keyring.parse(f"{NEW},{OLD}")

    [report] = await Resealer(before.db, keys, [place]).run()

    assert (report.resealed, report.unreadable) == (1, 0)
    async with before.db.transaction() as tx:
        found = bytes((await tx.conn.execute(text("SELECT api_key FROM providers"))).scalar_one())
    assert key_id_of(found) == keys.writing_key_id
    assert keys.open(found, context="provider:openai") == "theirs 2"


async def test_secrets_are_read_and_written_without_a_failure_meanwhile(
    before: Vault, monkeypatch: pytest.MonkeyPatch
):
    """Readers and writers know both keys and still write with the old one, as in the first second
    of a rotation."""
    monkeypatch.setattr(resealing, "BATCH", 3)
    running = open_vault(before.db, Keyring.parse(f"{OLD},{NEW}"))
    secrets = [await running.store(f"s{number}", "v") for number in range(20)]
    done = asyncio.Event()

    async def use() -> int:
        count = 0
        while not done.is_set():
            for secret in secrets:
                assert await running.value(secret) == "v"
                await running.store(f"n{count}", "v")
                count += 1
        return count

    using = asyncio.create_task(use())
    for _ in range(3):
        await resealer(running).run()
    done.set()
    assert await using > 0
    await resealer(running).run()
    assert {key for _, key in await resealer(running).census()} == {
        Keyring.parse(NEW).writing_key_id
    }
