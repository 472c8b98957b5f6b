"""The catalogue of settings on a real database: one store, sealed secrets, all or nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
from pydantic import JsonValue, SecretStr
from sqlalchemy import text

from conclave.adapters.llm.catalogue import PriceMapCatalogue
from conclave.adapters.net.guard import OutgoingGuard
from conclave.auditing import AuditLog
from conclave.configuration.application import ApplicationService
from conclave.configuration.catalogue import BY_KEY, Home
from conclave.configuration.commands import UpdateApplication
from conclave.configuration.errors import SettingNotFound
from conclave.configuration.plain import PlainSettings
from conclave.configuration.service import ConfigurationService
from conclave.configuration.shapes import ShownSetting
from conclave.crypto import Keyring, UndecipherableSecret, new_key
from conclave.db import Database
from conclave.errors import EncryptionKeyMissing, Invalid, Unavailable
from conclave.providers.commands import UpdateProvider
from conclave.providers.home import ProviderSettingHome
from conclave.providers.service import ProviderService
from conclave.secrets.references import VaultReferences
from conclave.security.home import SecuritySettingHome
from conclave.security.service import SecurityService
from conclave.settings import AuthMode, Settings

KEY = "sk-proj-0123456789-wxyz"
MASK = "sk-p...wxyz"


class NoProbe:
    async def test(self, access: object) -> tuple[bool, str, list[str]]:
        return True, "", []


async def to_loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Parts:
    """Everything that keeps settings, as one process has it."""

    configuration: ConfigurationService
    application: ApplicationService
    providers: ProviderService
    security: SecurityService
    clock: Clock

    async def set(self, full_key: str, given: str) -> ShownSetting:
        category, key = full_key.split(".")
        return await self.configuration.set(category, key, given)

    async def value(self, full_key: str) -> str:
        category, key = full_key.split(".")
        return (await self.configuration.catalogue())[category][key].value

    async def is_default(self, full_key: str) -> bool:
        category, key = full_key.split(".")
        return (await self.configuration.catalogue())[category][key].is_default


def build(
    db: Database,
    keys: Keyring | None,
    environment: Mapping[str, str] | None = None,
    **settings: object,
) -> Parts:
    clock = Clock()
    said = Settings.model_validate(
        {
            "database_url": str(db.engine.url.render_as_string(hide_password=False)),
            "smtp_host": None,
            "log_level": "INFO",
            **settings,
        }
    )
    guard = OutgoingGuard(own_ports=frozenset({8000}), resolver=to_loopback)
    providers = ProviderService(
        db,
        AuditLog(),
        keys,
        guard,
        NoProbe(),
        PriceMapCatalogue(),
        environment or {},
        VaultReferences(db, keys, clock=clock),
        clock=clock,
    )
    security = SecurityService(db, AuditLog(), AuthMode.LOCAL, clock=clock)
    plain = PlainSettings(db, keys, said, clock=clock)
    configuration = ConfigurationService(
        db, plain, ProviderSettingHome(providers), SecuritySettingHome(security), AuditLog()
    )
    application = ApplicationService(db, plain, configuration, said)
    return Parts(configuration, application, providers, security, clock)


@pytest.fixture
def keys() -> Keyring:
    return Keyring.parse(new_key())


@pytest.fixture
def parts(clean_database: Database, keys: Keyring) -> Parts:
    return build(clean_database, keys)


@pytest.fixture
def root_level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


async def audited(database: Database) -> list[dict[str, JsonValue]]:
    async with database.transaction() as tx:
        rows = await tx.conn.execute(
            text("SELECT changes FROM audit_entries WHERE action='settings_updated' ORDER BY id")
        )
        return list(rows.scalars())


@pytest.mark.parametrize(
    ("full_key", "given", "shown"),
    [
        ("llm.default_provider", "Anthropic", "anthropic"),
        ("llm.max_tokens", " 8192 ", "8192"),
        ("llm.temperature", "1.50", "1.5"),
        ("llm.temperature", "2", "2"),
        ("llm.ollama_base_url", "http://localhost:11434", "http://localhost:11434"),
        ("email.smtp_host", "mail.example.com", "mail.example.com"),
        ("email.smtp_host", "::1", "::1"),
        ("email.smtp_port", "465", "465"),
        ("email.smtp_from", "Conclave <bot@example.com>", "Conclave <bot@example.com>"),
        ("email.smtp_from", "bot@localhost", "bot@localhost"),
        ("email.smtp_password", " with blanks but long ", " wit...ong "),
        ("email.imap_password", "short", "****"),
        ("security.jwt_expire_minutes", "5", "5"),
        ("security.require_worker_approval", "NO", "false"),
        ("security.sandbox_enabled", "1", "true"),
        ("general.log_level", "debug", "DEBUG"),
        ("general.maintenance_mode", "on", "true"),
        ("notifications.webhook_url", "https://hooks.example/x?y=1", "https://hooks.example/x?y=1"),
        ("storage.allowed_file_types", "pdf, image/*", "pdf, image/*"),
        ("storage.auto_cleanup_days", "0", "0"),
    ],
)
@pytest.mark.usefixtures("root_level")
async def test_a_value_is_read_in_its_kind_and_shown_again(
    parts: Parts, full_key: str, given: str, shown: str
):
    changed = await parts.set(full_key, given)

    assert (changed.value, changed.is_default) == (shown, False)
    assert await parts.value(full_key) == shown


@pytest.mark.parametrize(
    ("full_key", "given"),
    [
        ("llm.default_provider", "skynet"),
        ("llm.max_tokens", "0"),
        ("llm.max_tokens", "4.5"),
        ("llm.max_tokens", "9" * 5000),
        ("llm.max_tokens", "٣"),
        ("llm.max_tokens", ""),
        ("llm.temperature", "2.1"),
        ("llm.temperature", "nan"),
        ("llm.temperature", "1e0"),
        ("llm.openai_api_key", "two words"),
        ("llm.openai_api_key", "k" * 4097),
        ("llm.ollama_base_url", "ftp://localhost"),
        ("llm.ollama_base_url", "http://localhost:8000"),
        ("email.smtp_host", "http://mail"),
        ("email.smtp_port", "65536"),
        ("email.smtp_user", "a\r\nRCPT TO: b"),
        ("email.smtp_from", "nobody"),
        ("email.smtp_from", "a@b\nBcc: c@d"),
        ("email.smtp_password", "line\nbreak"),
        ("security.jwt_expire_minutes", "4"),
        ("security.jwt_expire_minutes", "1441"),
        ("security.max_login_attempts", "many"),
        ("security.rate_limit_per_minute", "0"),
        ("security.sandbox_enabled", "perhaps"),
        ("general.log_level", "LOUD"),
        ("general.log_level", ""),
        ("general.maintenance_mode", ""),
        ("notifications.webhook_url", "javascript:alert(1)"),
        ("notifications.webhook_url", "https://u:p@hooks.example/"),
        ("notifications.webhook_url", "https://"),
        ("notifications.webhook_url", "https://h:99999/"),
        ("storage.max_file_size_mb", "-1"),
    ],
)
async def test_a_value_of_the_wrong_kind_names_its_field_and_stores_nothing(
    parts: Parts, clean_database: Database, full_key: str, given: str
):
    before = await parts.configuration.catalogue()

    with pytest.raises(Invalid) as single:
        await parts.set(full_key, given)
    with pytest.raises(Invalid) as bulk:
        await parts.configuration.set_many({"llm.default_model": "m", full_key: given})

    assert single.value.field == "value"
    assert bulk.value.field == f"settings.{full_key}"
    assert await parts.configuration.catalogue() == before
    assert await audited(clean_database) == []


async def test_a_setting_that_is_not_in_the_catalogue_is_unknown(parts: Parts):
    for full_key in ("llm.nope", "application.debug", "application.log_level", "nope.x"):
        with pytest.raises(SettingNotFound):
            await parts.set(full_key, "true")
        with pytest.raises(Invalid) as caught:
            await parts.configuration.set_many({full_key: "true"})
        assert caught.value.field == f"settings.{full_key}"


async def test_several_are_stored_together_or_not_at_all(parts: Parts, clean_database: Database):
    """The last one is refused by its home alone, inside the transaction, after the others."""
    with pytest.raises(Invalid):
        await parts.configuration.set_many(
            {
                "llm.openai_api_key": KEY,
                "email.smtp_host": "mail",
                "security.max_login_attempts": "9",
                "security.jwt_expire_minutes": "4",
            }
        )
    assert (await parts.providers.access("openai")).api_key is None
    assert await parts.value("email.smtp_host") == ""
    assert await parts.value("security.max_login_attempts") == "5"
    assert await audited(clean_database) == []

    stored = await parts.configuration.set_many(
        {
            "llm.openai_api_key": KEY,
            "email.smtp_host": "mail",
            "security.max_login_attempts": "9",
            "security.jwt_expire_minutes": "6",
        }
    )
    assert stored == 4
    assert (await parts.providers.access("openai")).api_key == KEY
    assert (await parts.security.current()).lockout.max_attempts == 9
    assert parts.security.last_known().session.access_token_minutes == 6


async def test_a_change_made_elsewhere_is_seen_through_the_catalogue(parts: Parts):
    await parts.providers.update("openai", UpdateProvider(api_key=KEY))
    await parts.providers.update("ollama", UpdateProvider(base_url="http://localhost:1"))
    await parts.security.update({"session": {"access_token_minutes": 77}})

    assert await parts.value("llm.openai_api_key") == MASK
    assert await parts.value("llm.ollama_base_url") == "http://localhost:1"
    assert await parts.value("security.jwt_expire_minutes") == "77"
    assert not await parts.is_default("security.jwt_expire_minutes")
    assert await parts.is_default("security.max_login_attempts")


async def test_a_mask_that_is_sent_back_changes_nothing(parts: Parts, clean_database: Database):
    changes = {"llm.openai_api_key": KEY, "email.smtp_password": "short", "email.smtp_user": "me"}
    await parts.configuration.set_many(changes)
    shown = {full_key: await parts.value(full_key) for full_key in changes}
    assert shown == {
        "llm.openai_api_key": MASK,
        "email.smtp_password": "****",
        "email.smtp_user": "me",
    }

    assert await parts.configuration.set_many(shown) == 1
    assert (await parts.configuration.set("llm", "openai_api_key", MASK)).value == MASK

    assert (await parts.providers.access("openai")).api_key == KEY
    await parts.configuration.set("email", "smtp_host", "mail")
    mail = await parts.configuration.mail_settings()
    assert mail is not None
    assert mail.password == "short"
    assert len(await audited(clean_database)) == 3


async def test_what_the_environment_says_counts_as_default_and_its_mask_stays_unstored(
    clean_database: Database, keys: Keyring
):
    parts = build(
        clean_database,
        keys,
        {"OPENAI_API_KEY": KEY, "OLLAMA_BASE_URL": "http://localhost:5"},
        smtp_host="env.mail",
        smtp_port=2525,
        smtp_password=SecretStr("environment password"),
    )
    assert await parts.value("llm.openai_api_key") == MASK
    assert await parts.value("llm.ollama_base_url") == "http://localhost:5"
    assert await parts.value("email.smtp_port") == "2525"
    assert await parts.value("email.smtp_password") == "envi...word"
    for full_key in ("llm.openai_api_key", "email.smtp_host", "email.smtp_password"):
        assert await parts.is_default(full_key)

    back = {"llm.openai_api_key": MASK, "email.smtp_password": "envi...word"}
    assert await parts.configuration.set_many(back) == 0
    assert await parts.is_default("llm.openai_api_key")
    await parts.configuration.set_many({"email.smtp_host": "stored.mail"})
    mail = await parts.configuration.mail_settings()
    assert mail is not None
    assert (mail.host, mail.port, mail.password) == ("stored.mail", 2525, "environment password")


async def test_an_empty_text_lets_the_default_hold_again(clean_database: Database, keys: Keyring):
    parts = build(clean_database, keys, {"OPENAI_API_KEY": "from-environment"}, smtp_host="env")
    texts = ("llm.openai_api_key", "email.smtp_host", "llm.default_provider", "email.smtp_password")
    await parts.configuration.set_many(
        dict(zip(texts, (KEY, "stored", "openai", "secret"), strict=True))
    )
    await parts.configuration.set_many(dict.fromkeys(texts, ""))

    assert (await parts.providers.access("openai")).api_key == "from-environment"
    assert await parts.value("email.smtp_host") == "env"
    assert await parts.value("llm.default_provider") == ""
    assert await parts.value("email.smtp_password") == ""
    for full_key in texts:
        assert await parts.is_default(full_key)


async def test_secrets_are_sealed_at_rest_and_their_values_never_audited(
    parts: Parts, clean_database: Database
):
    secrets = [one for one in BY_KEY.values() if one.is_secret]
    values = {one.full_key: f"value-of-{one.key}-0123456789" for one in secrets}
    hook = "https://hooks.example/services/T0/s3cret-token"
    await parts.configuration.set_many({**values, "notifications.webhook_url": hook})

    async with clean_database.transaction() as tx:
        stored = await tx.conn.execute(text("SELECT value::text FROM settings"))
        rows = " ".join(stored.scalars())
        sealed = await tx.conn.execute(text("SELECT api_key FROM providers"))
        rows += " ".join(bytes(key).decode("latin-1") for key in sealed.scalars() if key)
    [entry] = await audited(clean_database)
    for value in values.values():
        assert value not in rows
        assert value not in json.dumps(entry)
    assert len(secrets) == 7
    assert set(entry) == {*values, "notifications.webhook_url"}
    assert entry["llm.openai_api_key"] == {"secret": True}
    assert entry["notifications.webhook_url"] == {
        "before": None,
        "after": "https://hooks.example",
    }


async def test_plain_changes_are_audited_with_before_and_after(
    parts: Parts, clean_database: Database
):
    await parts.configuration.set_many({"llm.max_tokens": "9", "security.jwt_expire_minutes": "9"})

    assert await audited(clean_database) == [
        {
            "llm.max_tokens": {"before": 4096, "after": 9},
            "security.jwt_expire_minutes": {"before": 30, "after": 9},
        }
    ]


async def test_without_an_encryption_key_no_secret_is_stored_and_nothing_with_it(
    clean_database: Database,
):
    parts = build(clean_database, None)

    for full_key in ("email.smtp_password", "llm.openai_api_key"):
        with pytest.raises(EncryptionKeyMissing, match="ENCRYPTION_KEY") as caught:
            await parts.configuration.set_many({"email.smtp_host": "mail", full_key: "secret"})
        assert caught.value.status == 503
    assert await parts.value("email.smtp_host") == ""


async def test_a_secret_that_does_not_open_is_shown_as_set_and_can_be_replaced(
    parts: Parts, clean_database: Database
):
    await parts.configuration.set_many(
        {"email.smtp_password": "a long old password", "email.smtp_host": "m"}
    )
    other = build(clean_database, Keyring.parse(new_key()))
    without = build(clean_database, None)

    for one in (other, without):
        assert await one.value("email.smtp_password") == "****"
        with pytest.raises(UndecipherableSecret):
            await one.configuration.mail_settings()
    assert await other.configuration.set_many({"email.smtp_password": "****"}) == 0
    await other.configuration.set("email", "smtp_password", "new")
    mail = await other.configuration.mail_settings()
    assert mail is not None
    assert mail.password == "new"
    assert "new" not in repr(mail)


async def test_maintenance_holds_here_at_once_and_elsewhere_a_second_later(
    parts: Parts, clean_database: Database, keys: Keyring
):
    other = build(clean_database, keys)
    for one in (parts, other):
        assert not await one.configuration.maintenance()
    await parts.configuration.set("general", "maintenance_mode", "true")

    assert await parts.configuration.maintenance()
    assert not await other.configuration.maintenance()
    other.clock.now += 1
    assert await other.configuration.maintenance()


async def test_while_the_database_is_away_what_was_last_known_holds(keys: Keyring):
    database = Database.connect("postgresql+psycopg://x@127.0.0.1:1/x", pool_size=1)
    parts = build(database, keys, smtp_host="env.mail", log_level="warning")
    try:
        assert not await parts.configuration.maintenance()
        mail = await parts.configuration.mail_settings()
        assert mail is not None
        assert mail.host == "env.mail"
        assert (await parts.application.get()).log_level == "WARNING"
        with pytest.raises(Unavailable):
            await parts.configuration.catalogue()
        info = await parts.application.database()
        assert (info.host, info.port, info.is_connected) == ("127.0.0.1", 1, False)
    finally:
        await database.close()


@pytest.mark.usefixtures("root_level")
async def test_the_log_level_is_one_value_in_both_dialects_and_holds_at_once(
    parts: Parts, clean_database: Database
):
    await parts.application.update(UpdateApplication(log_level="error", debug=True))
    assert await parts.value("general.log_level") == "ERROR"
    assert logging.getLogger().level == logging.ERROR
    await parts.configuration.set("general", "log_level", "CRITICAL")
    assert logging.getLogger().level == logging.CRITICAL
    kept = await parts.application.get()
    assert (kept.log_level, kept.debug, kept.environment) == ("CRITICAL", True, "development")
    await parts.application.update(UpdateApplication(debug=False))
    assert not (await parts.application.get()).debug
    with pytest.raises(Invalid) as caught:
        await parts.application.update(UpdateApplication(log_level="LOUD", debug=True))
    assert caught.value.field == "log_level"
    assert not (await parts.application.get()).debug


async def test_the_database_is_shown_without_its_password(clean_database: Database, keys: Keyring):
    info = await build(clean_database, keys).application.database()

    assert info.is_connected
    assert info.name
    assert "password" not in info.model_dump_json()


async def test_every_setting_is_known_at_its_home(parts: Parts):
    shown = await parts.configuration.catalogue()

    assert sum(len(settings) for settings in shown.values()) == len(BY_KEY)
    for setting in BY_KEY.values():
        if setting.home is Home.SECURITY:
            assert shown[setting.category][setting.key].value.isdecimal()
