"""Storing, changing, rotating, revealing and deleting secrets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from conclave.crypto import Keyring, new_key
from conclave.errors import EncryptionKeyMissing
from conclave.secrets.commands import RotateSecret, UpdateSecret
from conclave.secrets.errors import (
    SecretInUse,
    SecretNameTaken,
    SecretNotFound,
    SecretUndecipherable,
)
from schema.domain.identity import LOCAL_PRINCIPAL, Principal, PrincipalKind, Role
from tests.core.secrets.conftest import Vault, open_vault

VALUE = "päss wörd \N{KEY}\n" * 3
ALICE = Principal(kind=PrincipalKind.USER, id=7, user_id=7, role=Role.ADMIN)


async def rows(vault: Vault, sql: str) -> list[dict[str, object]]:
    async with vault.db.transaction() as tx:
        return [dict(row) for row in (await tx.conn.execute(text(sql))).mappings()]


async def dump(vault: Vault) -> bytes:
    """Everything the three tables hold, as bytes."""
    found = bytearray()
    for table in ("secrets", "secret_versions", "audit_entries"):
        for row in await rows(vault, f"SELECT * FROM {table}"):
            for value in row.values():
                found += bytes(value) if isinstance(value, bytes) else str(value).encode()
    return bytes(found)


async def actions(vault: Vault) -> list[str]:
    return [str(row["action"]) for row in await rows(vault, "SELECT action FROM audit_entries")]


async def test_a_value_is_stored_encrypted_and_revealed_as_it_was(vault: Vault):
    secret = await vault.store(value=VALUE)

    assert (secret.version, secret.category, secret.accessed_count) == (1, "general", 0)
    assert (await vault.service.get(secret.id)).value is None
    assert await vault.value(secret) == VALUE
    assert VALUE.encode() not in await dump(vault)


async def test_each_secret_has_a_data_key_of_its_own_and_no_two_ciphertexts_are_alike(vault: Vault):
    await vault.store("a", "same")
    await vault.store("b", "same")

    keys = {bytes(row["data_key"]) for row in await rows(vault, "SELECT data_key FROM secrets")}  # type: ignore[arg-type]  # bytea
    texts = await rows(vault, "SELECT ciphertext FROM secret_versions")
    assert len(keys) == 2
    assert len({bytes(row["ciphertext"]) for row in texts}) == 2  # type: ignore[arg-type]  # bytea


async def test_a_reveal_is_counted_and_audited_and_a_look_is_not(vault: Vault):
    secret = await vault.store()
    await vault.service.get(secret.id)
    assert await actions(vault) == ["secret_created"]

    shown = await vault.service.get(secret.id, reveal=True)

    assert shown.secret.accessed_count == 1
    assert shown.secret.last_accessed_at is not None
    assert await actions(vault) == ["secret_created", "secret_accessed"]
    assert "hunter2" not in repr(shown)


async def test_a_name_is_taken_among_living_secrets_only(vault: Vault):
    first, other = await vault.store("one"), await vault.store("two")
    with pytest.raises(SecretNameTaken):
        await vault.store("one")
    with pytest.raises(SecretNameTaken):
        await vault.service.update(other.id, UpdateSecret(name="one"), LOCAL_PRINCIPAL)

    await vault.service.delete(first.id)

    assert (await vault.store("one")).id not in {first.id, other.id}


async def test_a_value_by_update_makes_a_version_and_earlier_ones_stay_encrypted(vault: Vault):
    secret = await vault.store(value="first")

    updated = await vault.service.update(
        secret.id, UpdateSecret(value="second", description="what for"), LOCAL_PRINCIPAL
    )

    assert (updated.version, updated.description) == (2, "what for")
    assert updated.rotated_at is None
    assert await vault.value(secret) == "second"
    assert len(await rows(vault, "SELECT id FROM secret_versions")) == 2
    assert b"first" not in await dump(vault)


async def test_what_is_left_out_stays_and_null_clears(vault: Vault):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    secret = await vault.store(description="d", expires_at=tomorrow)

    kept = await vault.service.update(secret.id, UpdateSecret(category="token"), LOCAL_PRINCIPAL)
    assert (kept.description, kept.expires_at, kept.category) == ("d", tomorrow, "token")
    assert kept.version == 1
    cleared = await vault.service.update(
        secret.id, UpdateSecret(description=None, expires_at=None), LOCAL_PRINCIPAL
    )
    assert (cleared.description, cleared.expires_at) == (None, None)


async def test_rotation_without_a_value_makes_a_random_one_and_shows_it_once(vault: Vault):
    secret = await vault.store()

    shown = await vault.service.rotate(secret.id, RotateSecret(length=20), ALICE)

    assert shown.value is not None
    assert len(shown.value) == 20
    assert set(shown.value) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )
    assert (shown.secret.version, shown.secret.rotated_by) == (2, 7)
    assert shown.secret.rotated_at is not None
    assert await vault.value(secret) == shown.value
    again = await vault.service.rotate(secret.id, RotateSecret(), ALICE)
    assert again.value != shown.value


async def test_rotation_with_a_value_does_not_show_it(vault: Vault):
    secret = await vault.store()
    shown = await vault.service.rotate(secret.id, RotateSecret(value="mine"), ALICE)
    assert (shown.value, shown.secret.version) == (None, 2)
    assert await vault.value(secret) == "mine"


async def test_rotations_at_once_each_make_a_version_of_their_own(vault: Vault):
    secret = await vault.store()
    rotate = vault.service.rotate
    shown = await asyncio.gather(*(rotate(secret.id, RotateSecret(), ALICE) for _ in range(8)))

    last = next(one for one in shown if one.secret.version == 9)
    assert sorted(one.secret.version for one in shown) == list(range(2, 10))
    assert await vault.value(secret) == last.value


async def test_deleting_erases_data_key_and_ciphertexts_and_hides_the_secret(vault: Vault):
    secret = await vault.store()
    await vault.service.rotate(secret.id, RotateSecret(), ALICE)

    await vault.service.delete(secret.id)

    assert await rows(vault, "SELECT data_key FROM secrets") == [{"data_key": None}]
    assert await rows(vault, "SELECT id FROM secret_versions") == []
    assert (await vault.service.list(None, 50, 0)) == ([], 0)
    for call in (
        vault.service.get(secret.id, reveal=True),
        vault.service.update(secret.id, UpdateSecret(value="x"), ALICE),
        vault.service.rotate(secret.id, RotateSecret(), ALICE),
        vault.service.delete(secret.id),
    ):
        with pytest.raises(SecretNotFound):
            await call


async def test_every_write_is_audited_without_a_value(vault: Vault):
    secret = await vault.store(value="v-one-secret")
    await vault.service.update(secret.id, UpdateSecret(value="v-two-secret"), ALICE)
    await vault.service.rotate(secret.id, RotateSecret(value="v-three-secret"), ALICE)
    await vault.service.delete(secret.id)

    assert await actions(vault) == [
        "secret_created",
        "secret_updated",
        "secret_rotated",
        "secret_deleted",
    ]
    [updated] = await rows(
        vault, "SELECT changes FROM audit_entries WHERE action = 'secret_updated'"
    )
    assert updated["changes"] == {"version": {"before": 1, "after": 2}}
    assert b"secret\n" not in await dump(vault)
    for value in (b"v-one", b"v-two", b"v-three"):
        assert value not in await dump(vault)


async def test_a_secret_in_use_is_neither_deleted_nor_renamed(vault: Vault):
    secret = await vault.store("openai-prod")
    vault.users.uses = {"openai-prod": ["provider openai"]}
    with pytest.raises(SecretInUse, match="provider openai") as caught:
        await vault.service.delete(secret.id)
    with pytest.raises(SecretInUse):
        await vault.service.update(secret.id, UpdateSecret(name="other"), ALICE)

    assert caught.value.details == {"used_by": ["provider openai"]}
    same_name = UpdateSecret(name="openai-prod", value="new")
    assert (await vault.service.update(secret.id, same_name, ALICE)).version == 2


async def test_a_secret_of_another_key_does_not_open_and_stays_listed(vault: Vault):
    secret = await vault.store()
    other = open_vault(vault.db, Keyring.parse(new_key()))

    with pytest.raises(SecretUndecipherable, match="cannot be decrypted"):
        await other.service.get(secret.id, reveal=True)
    with pytest.raises(SecretUndecipherable):
        await other.service.rotate(secret.id, RotateSecret(), ALICE)

    [listed] = (await other.service.list(None, 50, 0))[0]
    assert (listed.version, listed.accessed_count) == (1, 0)


@pytest.mark.parametrize(
    "swap",
    [
        "UPDATE secrets SET data_key = (SELECT data_key FROM secrets WHERE id = 2) WHERE id = 1",
        "UPDATE secret_versions SET ciphertext = "
        "(SELECT ciphertext FROM secret_versions WHERE secret_id = 2) WHERE secret_id = 1",
        "UPDATE secret_versions SET ciphertext = "
        "(SELECT ciphertext FROM secret_versions WHERE secret_id = 1 AND version = 1)"
        " WHERE secret_id = 1 AND version = 2",
        "UPDATE secret_versions SET ciphertext = ''",
    ],
)
async def test_what_was_moved_to_another_place_does_not_open(vault: Vault, swap: str):
    secret = await vault.store("a", "one")
    await vault.store("b", "two")
    await vault.service.update(secret.id, UpdateSecret(value="three"), ALICE)
    async with vault.db.transaction() as tx:
        await tx.conn.execute(text(swap))

    with pytest.raises(SecretUndecipherable):
        await vault.value(secret)


async def test_without_an_encryption_key_nothing_is_stored_or_revealed(vault: Vault):
    secret = await vault.store()
    bare = open_vault(vault.db, None)

    with pytest.raises(EncryptionKeyMissing):
        await bare.store("other")
    with pytest.raises(EncryptionKeyMissing):
        await bare.value(secret)
    with pytest.raises(EncryptionKeyMissing):
        await bare.service.rotate(secret.id, RotateSecret(), ALICE)
    assert (await bare.service.get(secret.id)).secret == secret


async def test_lists_are_newest_first_and_by_category(vault: Vault):
    for name, category in (("a", "token"), ("b", "general"), ("c", "token")):
        await vault.store(name, category=category)

    found, total = await vault.service.list("token", 50, 0)
    assert ([one.name for one in found], total) == (["c", "a"], 2)
    found, total = await vault.service.list(None, 1, 1)
    assert ([one.name for one in found], total) == (["b"], 3)


async def test_expiring_secrets_come_soonest_first_and_expired_ones_on_demand(vault: Vault):
    now = datetime.now(UTC)
    for name, days in (("late", 6.5), ("soon", 0.5), ("far", 30), ("gone", -1.5)):
        await vault.store(name, expires_at=now + timedelta(days=days))
    await vault.store("never")

    found, total = await vault.service.expiring(7, 50, 0, include_expired=False)
    assert [(one.secret.name, one.days_until_expiry) for one in found] == [("soon", 1), ("late", 7)]
    assert total == 2
    found, total = await vault.service.expiring(7, 50, 0, include_expired=True)
    assert (found[0].secret.name, found[0].days_until_expiry) == ("gone", -1)
    assert (found[0].secret.is_expired, total) == (True, 3)
