"""`conclave keys` on a database in use."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload

from conclave.container import keyring
from conclave.crypto import Keyring, new_key
from conclave.db import Database
from conclave.runtime import files, keys_command
from conclave.runtime.errors import KeysUnusable
from conclave.runtime.plan import Layout, Ports, UpOptions, child_environment
from conclave.runtime.postgres import Postgres
from conclave.secrets.commands import RotateSecret
from conclave.settings import Settings
from schema.domain.identity import LOCAL_PRINCIPAL
from tests.core.secrets.conftest import Vault, open_vault
from tests.waiting import until
from workflows.codec import EncryptionCodec

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An installation with its first key."""
    layout = Layout(tmp_path / "data")
    files.make_directories(layout)
    files.installation_secrets(layout)
    return layout


@pytest.fixture
def embedded(layout: Layout, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Its embedded PostgreSQL is the session's."""
    monkeypatch.delenv("ENCRYPTION_KEY", raising=False)

    def accepts_connections(_: Postgres) -> bool:
        return True

    def url(_: Postgres) -> str:
        return postgres_url

    monkeypatch.setattr(Postgres, "accepts_connections", accepts_connections)
    monkeypatch.setattr(Postgres, "url", url)
    return layout


def key_list(layout: Layout) -> list[str]:
    return files.installation_secrets(layout)["ENCRYPTION_KEY"].split(",")


def started_before(layout: Layout) -> Settings:
    """The settings of a child of `conclave up` that was started with the keys of that moment."""
    options = UpOptions(data_dir=layout.root)
    environment = child_environment(
        {},
        options,
        Ports(),
        database_url="postgresql://x",
        secrets=files.installation_secrets(layout),
    )
    assert environment["CONCLAVE_SECRETS_FILE"] == str(layout.secrets)
    return Settings.model_validate(
        {
            "encryption_key": environment["ENCRYPTION_KEY"],
            "conclave_secrets_file": environment["CONCLAVE_SECRETS_FILE"],
        }
    )


async def command(what: str, layout: Layout, **options: bool) -> tuple[object, list[str]]:
    """Run a command as the CLI does, on a thread of its own."""
    said: list[str] = []
    run = getattr(keys_command, what)
    outcome = await asyncio.to_thread(
        run, Settings(encryption_key=None), layout.root, said.append, **options
    )
    return outcome, said


@pytest.fixture
def running(embedded: Layout, clean_database: Database) -> Vault:
    """A process that was started before any rotation."""
    return open_vault(clean_database, keyring(started_before(embedded)))


async def test_a_rotation_seals_everything_again_and_keeps_the_old_key(
    embedded: Layout, running: Vault
):
    secret = await running.store()
    [old] = key_list(embedded)

    outcome, said = await command("rotate", embedded)

    assert outcome is True
    new, kept = key_list(embedded)
    assert kept == old
    assert new != old
    assert "secrets.data_key: 1 sealed again, 0 were already" in said
    assert await open_vault(running.db, Keyring.parse(new)).value(secret) == "hunter2"
    assert await running.value(secret) == "hunter2"
    assert not [line for line in said if new in line or old in line], "keys are not told"
    secrets = files.installation_secrets(embedded)
    assert secrets["GATEWAY_TOKEN"]
    assert embedded.secrets.stat().st_mode & 0o777 == 0o600


async def test_the_product_goes_on_with_the_old_environment_while_keys_are_rotated(
    embedded: Layout, running: Vault
):
    other = open_vault(running.db, keyring(started_before(embedded)))
    secrets = [await running.store(f"s{number}", "v0") for number in range(30)]
    done = asyncio.Event()

    async def use(vault: Vault) -> int:
        rounds = 0
        while not done.is_set():
            for secret in secrets:
                assert str(await vault.value(secret)).startswith("v")
                async with vault.db.transaction() as tx:
                    await vault.references.resolve(f"secret://{secret.name}", tx=tx)
            await vault.service.rotate(
                secrets[rounds % 30].id, RotateSecret(value=f"v{rounds}"), LOCAL_PRINCIPAL
            )
            await vault.store(f"{id(vault)}-{rounds}", "v")
            rounds += 1
        return rounds

    using = [asyncio.create_task(use(vault)) for vault in (running, other)]
    for _ in range(2):
        outcome, said = await command("rotate", embedded)
        assert outcome is True, said
    done.set()
    assert min(await asyncio.gather(*using)) > 1

    assert len(key_list(embedded)) == 3
    outcome, said = await command("retire", embedded, really=True)
    assert outcome is True
    assert len(key_list(embedded)) == 1, said
    alone = open_vault(running.db, Keyring.parse(key_list(embedded)[0]))
    for secret in secrets:
        assert await alone.value(secret)


async def test_a_worker_with_the_old_environment_reads_payloads_of_the_new_key(
    embedded: Layout, running: Vault
):
    old = EncryptionCodec(keyring(started_before(embedded)) or pytest.fail("no key"))
    before = await old.encode([Payload(data=b"4711")])
    await command("rotate", embedded)
    new = EncryptionCodec(keyring(started_before(embedded)) or pytest.fail("no key"))

    payloads = await new.encode([Payload(data=b"815")])

    assert payloads[0].metadata["conclave-key-id"] != before[0].metadata["conclave-key-id"]
    assert [one.data for one in await old.decode(payloads)] == [b"815"]
    assert [one.data for one in await new.decode(before)] == [b"4711"]


async def test_a_rotation_that_was_cut_is_finished_without_another_key(
    embedded: Layout, running: Vault
):
    await running.store()
    files.replace_secret(embedded.secrets, "ENCRYPTION_KEY", f"{new_key()},{key_list(embedded)[0]}")

    outcome, said = await command("rotate", embedded)

    assert outcome is True
    assert "finishing that" in said[0]
    assert len(key_list(embedded)) == 2
    await command("rotate", embedded)
    assert len(key_list(embedded)) == 3


async def test_the_list_says_what_each_key_seals(embedded: Layout, running: Vault):
    await running.store("a")
    await command("rotate", embedded)
    await open_vault(running.db, Keyring.parse(key_list(embedded)[1])).store("b")
    await open_vault(running.db, Keyring.parse(new_key())).store("c")

    _, said = await command("show", embedded)

    assert [line.split(maxsplit=1)[1] for line in said] == [
        "writes  secrets.data_key 1",
        "reads   secrets.data_key 1",
        "not at hand  secrets.data_key 1",
    ]
    assert not [line for line in said for key in key_list(embedded) if key in line]


async def test_keys_in_use_are_not_retired_and_idle_ones_only_on_request(
    embedded: Layout, running: Vault
):
    await running.store("a")
    await command("rotate", embedded)
    first, second = key_list(embedded)

    outcome, said = await command("retire", embedded, really=False)
    assert outcome is False
    assert "histories" in said[0]
    assert key_list(embedded) == [first, second]

    await open_vault(running.db, Keyring.parse(second)).store("late")
    await command("retire", embedded, really=True)
    assert key_list(embedded) == [first, second]

    await command("rotate", embedded)
    await command("retire", embedded, really=True)
    assert key_list(embedded) == [first]


async def test_what_cannot_be_read_makes_the_command_fail_and_stays(
    embedded: Layout, running: Vault
):
    await open_vault(running.db, Keyring.parse(new_key())).store()
    outcome, said = await command("rotate", embedded)
    assert outcome is False
    assert any("1 CANNOT BE READ" in line for line in said)


async def test_two_rotations_at_once_are_refused(embedded: Layout, running: Vault):
    first = asyncio.create_task(command("rotate", embedded))
    await until((embedded.run / "keys.lock").exists, what="the first one's lock")
    with pytest.raises(KeysUnusable, match="Another"):
        await command("rotate", embedded)
    await first
    assert len(key_list(embedded)) == 2


async def test_keys_of_the_environment_are_never_invented(
    embedded: Layout, running: Vault, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    await running.store()
    [old] = key_list(embedded)
    new = new_key()
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    settings = Settings.model_validate({"encryption_key": f"{new},{old}"})
    said: list[str] = []

    done = await asyncio.to_thread(keys_command.rotate, settings, embedded.root, said.append)

    assert done is True
    assert "from the environment" in said[0]
    assert key_list(embedded) == [old]
    with pytest.raises(KeysUnusable, match="environment"):
        await asyncio.to_thread(
            keys_command.retire, settings, embedded.root, said.append, really=True
        )
    [row] = [line for line in said if line.startswith("secrets.data_key")]
    assert "1 sealed again" in row


def test_a_stack_that_does_not_run_is_named(layout: Layout, tmp_path: Path):
    settings = Settings(encryption_key=None)
    with pytest.raises(KeysUnusable, match="conclave up"):
        keys_command.rotate(settings, layout.root, print)
    with pytest.raises(KeysUnusable, match="--data-dir"):
        keys_command.show(settings, tmp_path / "nowhere", print)
    assert len(key_list(layout)) == 1


def test_a_key_given_by_hand_is_not_looked_for_in_the_file(tmp_path: Path):
    secrets = {"ENCRYPTION_KEY": "file"}
    for inherited, given in (({"ENCRYPTION_KEY": "a"}, {}), ({}, {"ENCRYPTION_KEY": "b"})):
        options = UpOptions(data_dir=tmp_path, environment=given)
        found = child_environment(
            inherited, options, Ports(), database_url="postgresql://x", secrets=secrets
        )
        assert "CONCLAVE_SECRETS_FILE" not in found
        assert found["ENCRYPTION_KEY"] != "file"


def test_the_command_explains_itself_and_refuses_in_a_sentence(tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    environment.pop("ENCRYPTION_KEY", None)
    command = [sys.executable, "-P", "-m", "conclave.cli", "keys", "rotate"]
    result = subprocess.run(
        [*command, "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert "--data-dir" in result.stderr
    assert "Traceback" not in result.stderr
