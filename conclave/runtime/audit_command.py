"""`conclave audit verify`: which database, which keys, and what is said of the outcome."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from conclave.audit.verification import AuditVerifier
from conclave.container import keyring
from conclave.db import Database
from conclave.errors import Invalid
from conclave.runtime.files import ENCRYPTION_KEY, stored_secrets
from conclave.runtime.plan import Layout
from conclave.runtime.postgres import Postgres
from conclave.settings import Settings
from schema.domain.audit import NotedSeal, Verification

_NOTED = re.compile(r"([0-9a-f]{64})@([1-9][0-9]{0,8})")


def verify(settings: Settings, data_dir: Path | None, *, expect: str | None) -> Verification:
    """Verify the log of DATABASE_URL, or of the embedded database under `data_dir`. Blocking.

    Raises `Invalid` for an `expect` that is none, `Unavailable` where there is no database.
    """
    noted = None if expect is None else parse_noted(expect)
    if data_dir is not None:
        settings = _embedded(settings, Layout(data_dir))
    return asyncio.run(_verify(settings, noted))


def parse_noted(text: str) -> NotedSeal:
    """Read HASH@SEAL. Raises `Invalid`."""
    match = _NOTED.fullmatch(text.strip().lower())
    if match is None:
        raise Invalid("expect", "--expect wants HASH@SEAL: 64 hexadecimal digits, @ and a number.")
    return NotedSeal(hash=match[1], id=int(match[2]))


def report(found: Verification) -> list[str]:
    """Return what is said of the outcome, but for the break."""
    lines = [f"Seals: {found.seals} hold, over {found.sealed} entries; {found.waiting} wait."]
    macs = [f"{found.macs_checked} checked"]
    if found.macs_unchecked:
        macs.append(f"{found.macs_unchecked} NOT CHECKED (their keys are not at hand)")
    if found.macs_absent:
        macs.append(f"{found.macs_absent} seals have none (made without ENCRYPTION_KEY)")
    lines.append(f"MACs: {', '.join(macs)}.")
    if found.last is not None:
        lines.append(f"Last seal, to be noted elsewhere: {found.last}")
    return lines


def _embedded(settings: Settings, layout: Layout) -> Settings:
    """Return settings for the database and the key of a data directory; the environment's
    ENCRYPTION_KEY wins over the directory's, as it does for `up`."""
    changes: dict[str, object] = {"database_url": Postgres.at(layout.postgres).url()}
    if settings.encryption_key is None:
        changes["encryption_key"] = stored_secrets(layout).get(ENCRYPTION_KEY)
    return Settings.model_validate({**settings.model_dump(exclude_unset=True), **changes})


async def _verify(settings: Settings, noted: NotedSeal | None) -> Verification:
    db = Database.connect(settings.sqlalchemy_url, pool_size=1)
    try:
        return await AuditVerifier(db, keyring(settings)).verify(noted)
    finally:
        await db.close()
