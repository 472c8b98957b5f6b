"""`conclave keys`: which keys of ENCRYPTION_KEY are in use, a new one, and old ones taken out."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from conclave.container import sealed_places
from conclave.crypto import KeyFile, Keyring, key_id, new_key, parse_keys
from conclave.db import Database
from conclave.resealing import Resealed, Resealer
from conclave.runtime import files
from conclave.runtime.errors import KeysUnusable
from conclave.runtime.plan import Layout
from conclave.runtime.postgres import Postgres
from conclave.settings import Settings

UNTIL_STORED_SECONDS = 1.0
"""Whoever seals after the file has changed does it with the new key; what was sealed just before
is in the database by then."""
Say = Callable[[str], None]
T = TypeVar("T")
Census = Counter[tuple[str, bytes]]


@dataclass(frozen=True)
class Site:
    """Where the keys and what they seal are: in the data directory, or where the environment says.

    `file` is None where ENCRYPTION_KEY comes from the environment: that list is the operator's.
    """

    keys: Sequence[bytes]
    file: Path | None
    database: Settings

    @classmethod
    def find(cls, settings: Settings, data_dir: Path) -> Site:
        """Look at the environment first. Raises `KeysUnusable`."""
        layout = Layout(data_dir)
        if settings.encryption_key is not None:
            named = "DATABASE_URL" in os.environ
            database = settings if named else _embedded(layout)
            return cls(_parsed(settings.encryption_key.get_secret_value()), None, database)
        if not layout.secrets.exists():
            raise KeysUnusable(
                f"There is no {layout.secrets}, and ENCRYPTION_KEY is not set: name the "
                "installation with --data-dir."
            )
        text = files.installation_secrets(layout)[KeyFile.NAME]
        return cls(_parsed(text), layout.secrets, _embedded(layout))

    async def census(self) -> Census:
        """Count what each key seals."""
        return await _with_resealer(self, self.keys, lambda resealer: resealer.census())


def rotate(settings: Settings, data_dir: Path, say: Say) -> bool:
    """Put a new key first and seal everything with it; see `_rotate`. Raises `KeysUnusable`."""
    with _alone(data_dir):
        return asyncio.run(_rotate(Site.find(settings, data_dir), say))


def show(settings: Settings, data_dir: Path, say: Say) -> None:
    """Say which keys there are, which one writes, and how many rows each seals."""
    asyncio.run(_show(Site.find(settings, data_dir), say))


def retire(settings: Settings, data_dir: Path, say: Say, *, really: bool) -> bool:
    """Take the keys that seal no row out of the file; return whether all is as it was asked."""
    with _alone(data_dir):
        return asyncio.run(_retire(Site.find(settings, data_dir), say, really=really))


async def _rotate(site: Site, say: Say) -> bool:
    """Put a new key first and seal everything with it; return whether all of it could be read.

    Safe while the product runs, and to be killed: the next call goes on. Running processes read
    the file, which has the new key before anything is sealed with it.
    """
    keys = site.keys
    unfinished = _older(await site.census(), keys)
    if site.file is None:
        say("ENCRYPTION_KEY comes from the environment: sealing everything with its first key.")
    elif unfinished:
        say(f"{unfinished} values are sealed with older keys: finishing that, with no new key.")
    else:
        keys = [*parse_keys(new_key()), *keys]
        files.replace_secret(site.file, KeyFile.NAME, _listed(keys))
        say(f"New key {_name(key_id(keys[0]))} stands first in {site.file}.")
        await asyncio.sleep(UNTIL_STORED_SECONDS)
    reports = await _with_resealer(site, keys, lambda resealer: resealer.run())
    for report in reports:
        say(_line(report))
    say(
        "The older keys stay in the list: histories of workflows, seals of the audit log and "
        "backups still need them. `conclave keys list` says what is sealed with which."
    )
    return not any(report.unreadable for report in reports)


async def _show(site: Site, say: Say) -> None:
    census = await site.census()
    writing = key_id(site.keys[0])
    known = [key_id(key) for key in site.keys]
    strange = sorted({identity for _, identity in census} - set(known))
    for identity in [*known, *strange]:
        here = {place: count for (place, by), count in sorted(census.items()) if by == identity}
        rows = ", ".join(f"{place} {count}" for place, count in here.items()) or "no rows"
        mark = "writes" if identity == writing else "reads "
        say(f"{_name(identity)}  {mark if identity in known else 'not at hand'}  {rows}")


async def _retire(site: Site, say: Say, *, really: bool) -> bool:
    if site.file is None:
        raise KeysUnusable("ENCRYPTION_KEY comes from the environment: take keys out there.")
    used = {identity for _, identity in await site.census()}
    first, *others = site.keys
    idle = [key for key in others if key_id(key) not in used]
    if not idle:
        say("Every older key still seals rows, or there is none: run `conclave keys rotate` first.")
        return True
    names = ", ".join(_name(key_id(key)) for key in idle)
    say(
        f"No row is sealed with {names}. Workflow histories of Temporal's retention time may be, "
        "and so may backups: what is sealed with a key that is gone cannot be read again. API "
        "keys that were not used since the rotation stop working, and seals of the audit log made "
        "under it can no longer be checked."
    )
    if not really:
        say("Nothing was changed: say --yes to take them out.")
        return False
    kept = [first, *(key for key in others if key not in idle)]
    files.replace_secret(site.file, KeyFile.NAME, _listed(kept))
    say("Taken out. Running processes know them until they are started again.")
    return True


@contextmanager
def _alone(data_dir: Path) -> Generator[None]:
    """Hold the keys: two at once would each write a list that lacks the other's new key."""
    path = Layout(data_dir).run / "keys.lock"
    if not path.parent.is_dir():  # nothing of ours here: `Site.find` says what is wrong
        yield
        return
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KeysUnusable("Another `conclave keys` is at work here.") from None
        yield


async def _with_resealer(
    site: Site, keys: Sequence[bytes], do: Callable[[Resealer], Awaitable[T]]
) -> T:
    database = Database.connect(site.database.sqlalchemy_url, pool_size=2)
    try:
        return await do(Resealer(database, Keyring(keys), sealed_places()))
    finally:
        await database.close()


def _embedded(layout: Layout) -> Settings:
    postgres = Postgres.at(layout.postgres)
    if not postgres.accepts_connections():
        raise KeysUnusable(
            f"PostgreSQL of {layout.root} does not run: start `conclave up` first, "
            "keys are changed while it runs."
        )
    return Settings(database_url=postgres.url())


def _parsed(text: str) -> Sequence[bytes]:
    try:
        keys = parse_keys(text)
    except ValueError as error:
        raise KeysUnusable(str(error)) from None
    if not keys:
        raise KeysUnusable("ENCRYPTION_KEY is empty")
    return keys


def _older(census: Census, keys: Sequence[bytes]) -> int:
    """Count the rows under known keys other than the one that writes."""
    older = {key_id(key) for key in keys} - {key_id(keys[0])}
    return sum(count for (_, identity), count in census.items() if identity in older)


def _listed(keys: Sequence[bytes]) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


def _name(identity: bytes) -> str:
    return identity.hex() or "(none)"


def _line(report: Resealed) -> str:
    line = f"{report.place}: {report.resealed} sealed again, {report.already} were already"
    if report.unreadable:
        line += f", {report.unreadable} CANNOT BE READ with the keys at hand and were left"
    return line
