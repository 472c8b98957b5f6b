"""Where the application's settings are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from conclave.db import Transaction
from schema.domain.settings import KeptSetting, SettingValue


class SettingHome(Protocol):
    """Keeps some of the settings that the catalogue lists, each under a name of its own.

    Every setting of one request is stored in one transaction, whatever its home.
    """

    async def check(self, name: str, value: SettingValue | None) -> None:
        """Raise `Invalid` for a value that can be refused without the record (no transaction)."""
        ...

    async def read(self, tx: Transaction) -> Mapping[str, KeptSetting]:
        """Return every setting kept here, in force: as stored, or what holds else."""
        ...

    async def store(self, tx: Transaction, name: str, value: SettingValue | None) -> None:
        """Store a value; None lets the default hold again. Holds here once committed.

        Raises `Invalid`, `EncryptionKeyMissing` for a secret.
        """
        ...


class NamedSettings(Protocol):
    """Settings in force, asked for by name."""

    async def current(self, *names: str) -> Mapping[str, KeptSetting]:
        """Return the named ones, as they were a second ago at most."""
        ...
