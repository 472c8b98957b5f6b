"""Provider and application settings on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from conclave.adapters.llm.catalogue import PriceMapCatalogue
from conclave.adapters.net.guard import OutgoingGuard
from conclave.auditing import AuditLog
from conclave.crypto import Keyring, UndecipherableSecret, new_key
from conclave.db import Database
from conclave.errors import EncryptionKeyMissing, Invalid, SecretNotUsable, UrlRefused
from conclave.ports.secrets import SecretUser
from conclave.providers.commands import UpdateProvider
from conclave.providers.errors import ProviderNotFound
from conclave.providers.service import ProviderService
from conclave.secrets.commands import CreateSecret, RotateSecret
from conclave.secrets.errors import SecretInUse
from conclave.secrets.references import VaultReferences
from conclave.secrets.service import SecretService
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.providers import ProviderAccess, ProviderName
from schema.domain.secrets import Secret

KEY = "sk-ant-0123456789xyz"


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Probe:
    asked: list[ProviderAccess] = field(default_factory=list[ProviderAccess])

    async def test(self, access: ProviderAccess) -> tuple[bool, str, list[str]]:
        self.asked.append(access)
        return True, "it answers", ["m"]


async def to_loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def keys() -> Keyring:
    return Keyring.parse(new_key())


def build(
    database: Database,
    keys: Keyring | None,
    clock: Clock,
    probe: Probe | None = None,
    environment: Mapping[str, str] | None = None,
) -> ProviderService:
    return ProviderService(
        database,
        AuditLog(),
        keys,
        OutgoingGuard(own_ports=frozenset({8000}), resolver=to_loopback),
        probe or Probe(),
        PriceMapCatalogue(),
        environment or {},
        VaultReferences(database, keys, clock=clock),
        clock=clock,
    )


@pytest.fixture
def service(clean_database: Database, keys: Keyring, clock: Clock, probe: Probe) -> ProviderService:
    return build(clean_database, keys, clock, probe)


async def test_six_providers_are_listed_and_none_is_configured_at_first(service: ProviderService):
    listed = await service.list()

    assert [one.provider for one in listed] == list(ProviderName)
    assert not any(one.is_configured for one in listed)
    assert all(one.api_key is None and one.models for one in listed)


async def test_a_stored_key_is_sealed_shown_masked_and_used(
    service: ProviderService, database: Database
):
    shown = await service.update("anthropic", UpdateProvider(api_key=KEY))

    assert (shown.api_key, shown.is_configured) == ("sk-a...xyz", True)
    assert (await service.access("anthropic")).api_key == KEY
    async with database.transaction() as tx:
        row = await tx.conn.execute(text("SELECT api_key FROM providers WHERE name='anthropic'"))
        sealed = bytes(row.scalar_one())
    assert KEY.encode() not in sealed
    assert (await service.list())[0].api_key == "sk-a...xyz"


async def test_what_is_left_out_stays_and_null_clears(service: ProviderService):
    await service.update("openai", UpdateProvider(api_key=KEY, default_model="gpt-5"))
    await service.update("openai", UpdateProvider(base_url="http://models.example:9/v1"))

    access = await service.access("openai")
    assert (access.api_key, access.default_model) == (KEY, "gpt-5")
    assert access.base_url == "http://models.example:9/v1"

    shown = await service.update(
        "openai", UpdateProvider(api_key=None, base_url=None, default_model=None)
    )
    assert (shown.api_key, shown.base_url, shown.is_configured) == (None, None, False)
    assert shown.default_model == "gpt-4o"


async def test_stored_settings_win_over_the_environment(
    clean_database: Database, keys: Keyring, clock: Clock
):
    environment = {"GOOGLE_API_KEY": "from-google", "OLLAMA_BASE_URL": "http://localhost:1"}
    service = build(clean_database, keys, clock, environment=environment)

    assert (await service.access("google")).api_key == "from-google"
    assert (await service.access("ollama")).is_configured
    await service.update("google", UpdateProvider(api_key="stored"))
    assert (await service.access("google")).api_key == "stored"
    await service.update("google", UpdateProvider(api_key=None))
    assert (await service.access("google")).api_key == "from-google"


async def test_access_costs_a_query_a_second_and_sees_what_another_process_changed(
    service: ProviderService, clean_database: Database, keys: Keyring, clock: Clock
):
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    sync_engine = clean_database.aside_engine.sync_engine
    event.listen(sync_engine, "before_cursor_execute", note)
    try:
        await asyncio.gather(*(service.access("mistral") for _ in range(50)))
        clock.now += 0.9
        await service.access("mistral")
        assert len(statements) == 1
    finally:
        event.remove(sync_engine, "before_cursor_execute", note)
    await build(clean_database, keys, clock).update("mistral", UpdateProvider(api_key="changed"))

    assert (await service.access("mistral")).api_key is None
    clock.now += 0.1
    assert (await service.access("mistral")).api_key == "changed"


async def test_without_an_encryption_key_no_key_is_stored(clean_database: Database, clock: Clock):
    service = build(clean_database, None, clock)

    with pytest.raises(EncryptionKeyMissing, match="ENCRYPTION_KEY") as caught:
        await service.update("openai", UpdateProvider(api_key=KEY))

    assert caught.value.status == 503
    assert (await service.access("openai")).api_key is None


async def test_a_key_sealed_by_a_lost_encryption_key_is_listed_but_does_not_open(
    service: ProviderService, clean_database: Database, clock: Clock
):
    await service.update("openai", UpdateProvider(api_key=KEY))
    other = build(clean_database, Keyring.parse(new_key()), clock)

    with pytest.raises(UndecipherableSecret):
        await other.access("openai")
    [shown] = [one for one in await other.list() if one.provider is ProviderName.OPENAI]
    assert (shown.api_key, shown.is_configured) == ("...", True)
    assert not (await other.test("openai")).success


async def store_secret(
    database: Database, keys: Keyring, users: Sequence[SecretUser] = (), **fields: object
) -> tuple[SecretService, Secret]:
    vault = SecretService(database, keys, AuditLog(), users)
    values = {"name": "openai-prod", "value": KEY, **fields}
    return vault, await vault.create(CreateSecret.model_validate(values), LOCAL_PRINCIPAL)


async def test_a_key_by_reference_is_shown_as_such_and_used_by_its_present_value(
    service: ProviderService, database: Database, keys: Keyring, clock: Clock, probe: Probe
):
    vault, secret = await store_secret(database, keys)

    shown = await service.update("openai", UpdateProvider(api_key="secret://openai-prod"))
    assert (shown.api_key, shown.is_configured) == ("secret://openai-prod", True)
    assert [one.api_key for one in await service.list() if one.provider == "openai"] == [
        "secret://openai-prod"
    ]
    assert (await service.access("openai")).api_key == KEY
    assert (await service.test("openai")).success
    assert probe.asked[0].api_key == KEY

    await vault.rotate(secret.id, RotateSecret(value="sk-new-0123456789\n"), LOCAL_PRINCIPAL)
    clock.now += 1
    assert (await service.access("openai")).api_key == "sk-new-0123456789"


async def test_a_key_takes_the_place_of_a_reference_and_the_other_way_round(
    service: ProviderService, database: Database, keys: Keyring
):
    await store_secret(database, keys, value="from-the-vault")
    for key, used in ((KEY, KEY), ("secret://openai-prod", "from-the-vault"), (None, None)):
        await service.update("openai", UpdateProvider(api_key=key))
        assert (await service.access("openai")).api_key == used


async def test_a_reference_to_nothing_is_refused_naming_the_field(
    service: ProviderService, database: Database, keys: Keyring
):
    past = datetime.now(UTC) - timedelta(days=1)
    await store_secret(database, keys, expires_at=past)
    await service.update("openai", UpdateProvider(api_key=KEY))
    for reference in ("secret://nowhere", "secret://openai-prod", "secret://"):
        with pytest.raises(Invalid) as caught:
            await service.update("openai", UpdateProvider(api_key=reference))
        assert caught.value.field == "api_key"

    assert (await service.access("openai")).api_key == KEY


async def test_a_reference_in_the_environment_is_resolved_too(
    clean_database: Database, keys: Keyring, clock: Clock
):
    environment = {"OPENAI_API_KEY": "secret://openai-prod"}
    service = build(clean_database, keys, clock, environment=environment)
    with pytest.raises(SecretNotUsable, match="names no secret"):
        await service.access("openai")
    assert not (await service.test("openai")).success

    await store_secret(clean_database, keys)
    clock.now += 1

    assert (await service.access("openai")).api_key == KEY
    assert (await service.access("mistral")).api_key is None
    await service.update("openai", UpdateProvider(api_key="stored"))
    assert (await service.access("openai")).api_key == "stored"


async def test_a_secret_that_a_provider_uses_is_not_deleted(
    service: ProviderService, database: Database, keys: Keyring
):
    vault, secret = await store_secret(database, keys, [service])
    await service.update("openai", UpdateProvider(api_key="secret://openai-prod"))
    with pytest.raises(SecretInUse, match="provider openai"):
        await vault.delete(secret.id)

    await service.update("openai", UpdateProvider(api_key=None))
    await vault.delete(secret.id)


async def test_a_reference_costs_no_query_between_two_looks(
    service: ProviderService, database: Database, keys: Keyring, clock: Clock
):
    await store_secret(database, keys)
    await service.update("openai", UpdateProvider(api_key="secret://openai-prod"))
    await service.access("openai")
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    event.listen(database.aside_engine.sync_engine, "before_cursor_execute", note)
    try:
        clock.now += 0.9
        await asyncio.gather(*(service.access("openai") for _ in range(50)))
        assert statements == []
        clock.now += 0.1
        await asyncio.gather(*(service.access("openai") for _ in range(50)))
        assert len(statements) == 2
    finally:
        event.remove(database.aside_engine.sync_engine, "before_cursor_execute", note)


async def test_a_secret_that_no_header_can_carry_is_refused_without_its_text(
    service: ProviderService, database: Database, keys: Keyring
):
    await store_secret(database, keys, value="first line\nsecond line")
    await service.update("openai", UpdateProvider(api_key="secret://openai-prod"))
    with pytest.raises(SecretNotUsable, match="characters") as caught:
        await service.access("openai")
    assert "line" not in caught.value.message


async def test_a_base_url_on_loopback_is_an_administrators_but_never_our_own_port(
    service: ProviderService,
):
    await service.update("ollama", UpdateProvider(base_url="http://localhost:11434"))
    for url in ("http://localhost:8000", "ftp://localhost/", "http://a b/"):
        with pytest.raises(UrlRefused) as caught:
            await service.update("ollama", UpdateProvider(base_url=url))
        assert caught.value.field == "base_url"

    assert (await service.access("ollama")).base_url == "http://localhost:11434"


async def test_an_unknown_provider_is_not_found(service: ProviderService):
    for call in (
        service.access("nope"),
        service.update("nope", UpdateProvider(api_key="x")),
        service.test("nope"),
    ):
        with pytest.raises(ProviderNotFound):
            await call


async def test_a_test_asks_the_provider_only_when_it_is_set_up(
    service: ProviderService, probe: Probe
):
    refused = await service.test("openai")
    assert (refused.success, refused.message) == (False, "No API key is set")
    assert probe.asked == []

    await service.update("openai", UpdateProvider(api_key=KEY))
    assert (await service.test("openai")).success
    assert [access.api_key for access in probe.asked] == [KEY]
