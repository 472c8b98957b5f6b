"""`conclave audit verify`: where it looks, what it says, how it exits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from conclave.audit.sealer import AuditSealer
from conclave.auditing import AuditLog
from conclave.crypto import Keyring, new_key
from conclave.db import Database
from tests.harness.servers import free_port

_ROOT = Path(__file__).parents[2]
KEY = new_key()


def verify(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "ENCRYPTION_KEY", "CONCLAVE_DATA_DIR"}
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "conclave.cli", "audit", "verify", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, "PYTHONPATH": str(_ROOT), **environment},
        check=False,
    )


@pytest.fixture
async def sealed(clean_database: Database) -> Database:
    """Three entries, two of them sealed, under `KEY`."""
    for name in ("a", "b", "c"):
        async with clean_database.transaction() as tx:
            await AuditLog().record(tx, "tea_made", "tea", name)
        if name == "b":
            await AuditSealer(clean_database, Keyring.parse(KEY)).run()
    return clean_database


async def tamper(db: Database, statement: str) -> None:
    async with db.transaction() as tx:
        await tx.conn.execute(text("SET LOCAL session_replication_role = replica"))
        await tx.conn.execute(text(statement))


@pytest.mark.usefixtures("sealed")
def test_a_log_that_holds_is_told_with_the_seal_to_be_noted(postgres_url: str):
    result = verify(DATABASE_URL=postgres_url, ENCRYPTION_KEY=KEY)
    assert result.returncode == 0, result.stderr
    counts, macs, noted, verdict = result.stdout.splitlines()
    assert counts == "Seals: 1 hold, over 2 entries; 1 wait."
    assert macs == "MACs: 1 checked."
    assert verdict == "Nothing was altered."
    seal = noted.rpartition(" ")[2]
    again = verify("--expect", seal, DATABASE_URL=postgres_url)
    assert again.returncode == 0, again.stderr
    assert "MACs: 0 checked, 1 NOT CHECKED (their keys are not at hand)." in again.stdout


async def test_a_break_exits_with_1_and_names_the_place(sealed: Database, postgres_url: str):
    await tamper(sealed, "UPDATE audit_entries SET actor_id = 7 WHERE id = 1")
    result = verify(DATABASE_URL=postgres_url, ENCRYPTION_KEY=KEY)
    assert result.returncode == 1
    assert result.stderr.startswith("BROKEN: Seal 1 does not fit its entries (1 to 2, 2 in all)")
    assert "Nothing was altered" not in result.stdout


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("seal", [f"{'0' * 64}@1", f"{'0' * 64}@2"], ids=["other", "gone"])
def test_a_noted_seal_that_is_not_there_exits_with_1(postgres_url: str, seal: str):
    result = verify("--expect", seal, DATABASE_URL=postgres_url, ENCRYPTION_KEY=KEY)
    assert result.returncode == 1
    assert "noted" in result.stderr


@pytest.mark.usefixtures("sealed")
def test_the_embedded_database_is_found_by_its_directory_with_its_key(server_directory: Path):
    secrets = server_directory / "secrets.env"
    secrets.write_text(f"ENCRYPTION_KEY={KEY}\n")
    elsewhere = f"postgresql://x@127.0.0.1:{free_port()}/x"
    try:
        given = verify("--data-dir", str(server_directory), DATABASE_URL=elsewhere)
        assumed = verify(CONCLAVE_DATA_DIR=str(server_directory))
    finally:
        secrets.unlink()
    assert given.returncode == 0, given.stderr
    assert "MACs: 1 checked." in given.stdout
    assert assumed.stdout == given.stdout


def test_without_a_database_it_says_so_and_makes_none(tmp_path: Path):
    result = verify("--data-dir", str(tmp_path / "none"))
    assert result.returncode == 1
    assert result.stderr == "The database cannot be reached.\n"
    assert not (tmp_path / "none").exists()


def test_an_expectation_that_is_none_is_refused(postgres_url: str):
    result = verify("--expect", "abc@1", DATABASE_URL=postgres_url)
    assert result.returncode == 1
    assert "HASH@SEAL" in result.stderr
    assert "Traceback" not in result.stderr
