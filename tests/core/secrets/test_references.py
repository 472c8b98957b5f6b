"""`secret://name` in the place of a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from conclave.crypto import Keyring, new_key
from conclave.errors import Invalid, SecretNotUsable
from conclave.secrets.commands import RotateSecret, UpdateSecret
from conclave.secrets.references import FRESH_SECONDS
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.secrets import reference_to, referenced_name
from tests.core.secrets.conftest import Vault, open_vault
from tests.waiting import until

PAST = datetime.now(UTC) - timedelta(days=1)


@pytest.mark.parametrize("name", ["openai-prod", "team/db", "with blank", "100%", "schlüssel", "?"])
def test_every_name_can_be_referred_to(name: str):
    reference = reference_to(name)
    assert referenced_name(reference) == name
    assert " " not in reference
    assert reference.isascii()


def test_usual_names_stand_in_references_as_they_are():
    assert reference_to("team/openai-prod") == "secret://team/openai-prod"
    assert referenced_name("sk-123") is None


async def test_a_reference_is_replaced_and_other_text_is_not(vault: Vault):
    await vault.store("db", "hunter2")
    assert await vault.references.resolve("secret://db") == "hunter2"
    assert await vault.references.resolve("no reference") == "no reference"


async def test_a_rotated_secret_is_used_a_second_later_and_asked_for_once_till_then(vault: Vault):
    secret = await vault.store("db", "old")
    assert await vault.references.resolve("secret://db") == "old"
    await vault.service.rotate(secret.id, RotateSecret(value="new"), LOCAL_PRINCIPAL)
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    event.listen(vault.db.engine.sync_engine, "before_cursor_execute", note)
    try:
        vault.clock.now += FRESH_SECONDS / 2
        assert await vault.references.resolve("secret://db") == "old"
        assert statements == []
    finally:
        event.remove(vault.db.engine.sync_engine, "before_cursor_execute", note)
    vault.clock.now += FRESH_SECONDS / 2
    assert await vault.references.resolve("secret://db") == "new"


async def test_within_a_transaction_the_record_itself_is_read(vault: Vault):
    secret = await vault.store("db", "old")
    await vault.references.resolve("secret://db")
    await vault.service.update(secret.id, UpdateSecret(value="new"), LOCAL_PRINCIPAL)
    async with vault.db.transaction() as tx:
        assert await vault.references.resolve("secret://db", tx=tx) == "new"


async def test_what_cannot_be_used_says_why(vault: Vault):
    expired = await vault.store("old", expires_at=PAST)
    await vault.store("fine")
    with pytest.raises(SecretNotUsable, match="names no secret"):
        await vault.references.resolve("secret://nowhere")
    with pytest.raises(SecretNotUsable, match="names no secret"):
        await vault.references.resolve("secret://a%00b")
    with pytest.raises(SecretNotUsable, match="secret://old has expired") as caught:
        await vault.references.resolve("secret://old")
    for keys in (None, Keyring.parse(new_key())):
        with pytest.raises(SecretNotUsable, match="cannot be decrypted"):
            await open_vault(vault.db, keys).references.resolve("secret://fine")

    assert not caught.value.retryable
    assert await vault.value(expired) == "hunter2", "administrators still see it"


async def test_a_secret_that_expires_while_it_is_in_memory_is_not_used(vault: Vault):
    await vault.store("db", expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
    assert await vault.references.resolve("secret://db") == "hunter2"

    async def expired() -> bool:
        try:
            await vault.references.resolve("secret://db")
        except SecretNotUsable:
            return True
        return False

    await until(expired, timeout=5, what="its expiry; the clock of the cache stands still")


async def test_a_use_is_noted_once_a_minute_and_is_no_reveal(vault: Vault):
    secret = await vault.store("db")
    await vault.references.resolve("secret://db")
    first = (await vault.service.get(secret.id)).secret
    assert first.last_accessed_at is not None
    assert (first.accessed_count, first.updated_at) == (0, secret.updated_at)

    await open_vault(vault.db, vault.keys).references.resolve("secret://db")
    vault.clock.now += 59
    await vault.references.resolve("secret://db")
    assert (await vault.service.get(secret.id)).secret == first

    async with vault.db.transaction() as tx:
        await tx.conn.execute(text("UPDATE secrets SET last_accessed_at = now() - interval '2 m'"))
    vault.clock.now += 1
    await vault.references.resolve("secret://db")
    again = (await vault.service.get(secret.id)).secret.last_accessed_at
    assert again is not None
    assert again > first.last_accessed_at


async def test_storing_a_reference_needs_a_secret_that_can_be_used(vault: Vault):
    await vault.store("db")
    await vault.store("old", expires_at=PAST)
    async with vault.db.transaction() as tx:
        await vault.references.require(tx, "secret://db", field="api_key")
        await vault.references.require(tx, "no reference", field="api_key")
        for text_ in ("secret://nowhere", "secret://old", "secret://", "secret://a%00"):
            with pytest.raises(Invalid) as caught:
                await vault.references.require(tx, text_, field="api_key")
            assert caught.value.field == "api_key"
