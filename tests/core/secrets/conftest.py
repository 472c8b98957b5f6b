"""The vault over a real database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from conclave.auditing import AuditLog
from conclave.crypto import Keyring, new_key
from conclave.db import Database, Transaction
from conclave.secrets.commands import CreateSecret
from conclave.secrets.references import VaultReferences
from conclave.secrets.service import SecretService
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.secrets import Secret


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Users:
    """Who refers to which secret."""

    uses: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    async def uses_of(self, tx: Transaction, name: str) -> Sequence[str]:
        return self.uses.get(name, [])


@dataclass
class Vault:
    db: Database
    keys: Keyring
    users: Users
    clock: Clock
    service: SecretService
    references: VaultReferences

    async def store(self, name: str = "db", value: str = "hunter2", **fields: object) -> Secret:
        command = CreateSecret.model_validate({"name": name, "value": value, **fields})
        return await self.service.create(command, LOCAL_PRINCIPAL)

    async def value(self, secret: Secret) -> str | None:
        return (await self.service.get(secret.id, reveal=True)).value


def open_vault(db: Database, keys: Keyring | None) -> Vault:
    users, clock = Users(), Clock()
    return Vault(
        db,
        keys or Keyring.parse(new_key()),
        users,
        clock,
        SecretService(db, keys, AuditLog(), [users]),
        VaultReferences(db, keys, clock=clock),
    )


@pytest.fixture
def vault(clean_database: Database) -> Vault:
    return open_vault(clean_database, Keyring.parse(new_key()))
