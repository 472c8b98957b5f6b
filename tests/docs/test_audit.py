"""The program that `docs/audit.md` hands to outsiders computes the chain as we do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from conclave.audit.sealer import AuditSealer
from conclave.audit.verification import AuditVerifier
from conclave.auditing import AuditLog
from conclave.crypto import Keyring, new_key
from conclave.db import Database

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
ODD = 'ü 茶 🍵 "\\ \n\t\x01\x7f</>'


def outsider(url: str) -> subprocess.CompletedProcess[str]:
    [program] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return subprocess.run(
        [sys.executable, "-c", program, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_program_of_the_page_agrees_with_ours(
    clean_database: Database, postgres_url: str
):
    keys = Keyring.parse(new_key())
    for sealed_by in (None, keys):
        for details in (ODD, None, "plain"):
            async with clean_database.transaction() as tx:
                await AuditLog().record(
                    tx, "tea_made", "tea", ODD, details=details, changes={ODD: [1.50, None, ODD]}
                )
        assert await AuditSealer(clean_database, sealed_by).run() == 3
    ours = await AuditVerifier(clean_database, keys).verify()
    theirs = outsider(postgres_url)
    assert theirs.returncode == 0, theirs.stderr
    assert theirs.stdout == f"{ours.last}\n"

    async with clean_database.transaction() as tx:
        await tx.conn.execute(text("SET LOCAL session_replication_role = replica"))
        await tx.conn.execute(text("UPDATE audit_entries SET details = 'other' WHERE id = 4"))
    assert "AssertionError: seal 2" in outsider(postgres_url).stderr
