"""Verifying the audit log: every seal is computed again, in one snapshot, batch by batch."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence

from conclave.audit.repository import AuditRepository
from conclave.audit.sealing import BEFORE_THE_FIRST, hash_of, mac_of
from conclave.crypto import Keyring
from conclave.db import Database, Transaction
from schema.domain.audit import (
    AuditBreak,
    AuditSeal,
    BreakKind,
    NotedSeal,
    SealableEntry,
    Verification,
)

_SEALS_AT_ONCE = 100
_ENTRIES_AT_ONCE = 1_000
"""A single seal may hold more; else this bounds what is in memory."""


class AuditVerifier:
    """Reads only. Writers and sealers go on meanwhile: what they add is not looked at."""

    def __init__(self, db: Database, keys: Keyring | None) -> None:
        self._db = db
        self._keys = keys
        self._repository = AuditRepository()

    async def verify(self, noted: NotedSeal | None = None) -> Verification:
        """Return what was found, up to the first break; `noted` must still be in the chain."""
        async with self._db.transaction() as tx:
            await self._repository.freeze(tx)
            walk = _Walk(self._keys, noted)
            broken = await self._walk(tx, walk) or walk.unmet() or await self._strays(tx)
            waiting = await self._repository.waiting(tx)
        return walk.found.model_copy(update={"waiting": waiting, "broken": broken})

    async def _walk(self, tx: Transaction, walk: _Walk) -> AuditBreak | None:
        """Follow the chain from its beginning."""
        while seals := await self._repository.seals_after(tx, walk.at, _SEALS_AT_ONCE):
            for group in _groups(seals):
                ids = [entry_id for seal in group for entry_id in seal.entry_ids]
                entries = await self._repository.entries(tx, ids)
                for seal in group:
                    broken = walk.step(seal, entries)
                    if broken is not None:
                        return broken
        return None

    async def _strays(self, tx: Transaction) -> AuditBreak | None:
        """Look for entries that the chain, sound in itself, does not account for."""
        twice = await self._repository.sealed_twice(tx)
        if twice is not None:
            return _stray(BreakKind.SEALED_TWICE, twice, "is sealed or waiting more than once")
        gone = await self._repository.waiting_for_nothing(tx)
        if gone is not None:
            return _stray(BreakKind.ENTRY_MISSING, gone, "waits for its seal and is gone")
        neither = await self._repository.neither(tx)
        if neither is not None:
            kind = BreakKind.NEITHER_SEALED_NOR_WAITING
            return _stray(kind, neither, "is in no seal and does not wait for one")
        return None


class _Walk:
    """The state of a walk along the chain."""

    def __init__(self, keys: Keyring | None, noted: NotedSeal | None) -> None:
        self._keys = keys
        self._noted = noted
        self.found = Verification()

    @property
    def at(self) -> int:
        """The seal that was checked last, 0 before the first."""
        return 0 if self.found.last is None else self.found.last.id

    def step(self, seal: AuditSeal, entries: dict[int, SealableEntry]) -> AuditBreak | None:
        """Check the next seal; count it where it holds."""
        if seal.id != self.at + 1:
            return _at(self.at + 1, BreakKind.SEAL_MISSING, "is missing")
        before = BEFORE_THE_FIRST if self.found.last is None else self.found.last.hash
        if seal.previous_hash != before:
            return _at(seal.id, BreakKind.LINK_DIFFERS, "does not follow the seal before it")
        for entry_id in seal.entry_ids:
            if entry_id not in entries:
                kind, message = BreakKind.ENTRY_MISSING, f"names entry {entry_id}, which is gone"
                return _at(seal.id, kind, message, entry_id)
        if hash_of(seal, [entries[entry_id] for entry_id in seal.entry_ids]) != seal.hash:
            message = (
                f"does not fit its entries ({_span(seal)}): one was changed, or the seal itself"
            )
            return _at(seal.id, BreakKind.HASH_DIFFERS, message)
        noted = self._noted
        if noted is not None and noted.id == seal.id and noted.hash != seal.hash:
            message = f"is not the one that was noted ({noted.hash})"
            return _at(seal.id, BreakKind.NOTED_SEAL_DIFFERS, message)
        return self._check_mac(seal) or self._count(seal)

    def unmet(self) -> AuditBreak | None:
        """Return the break where the chain ends before the noted seal."""
        noted = self._noted
        if noted is None or 1 <= noted.id <= self.at:
            return None
        message = f"was noted and is not there: the chain ends at seal {self.at}"
        return _at(noted.id, BreakKind.NOTED_SEAL_DIFFERS, message)

    def _check_mac(self, seal: AuditSeal) -> AuditBreak | None:
        """Once a MAC was checked, no later seal may be without one that can be."""
        begun = self.found.macs_checked > 0
        if seal.key_id is None or seal.mac is None:
            if begun or seal.key_id != seal.mac:
                return _at(seal.id, BreakKind.MAC_MISSING, "has no MAC, though it should")
            self._add(macs_absent=1)
            return None
        expected = None if self._keys is None else mac_of(seal.hash, seal.key_id, self._keys)
        if expected is None:
            if begun:
                message = (
                    f"names the key {seal.key_id}, which is not at hand though those of earlier "
                    "seals are: either ENCRYPTION_KEY lacks a key, or the seal is forged"
                )
                return _at(seal.id, BreakKind.KEY_UNKNOWN, message)
            self._add(macs_unchecked=1)
            return None
        if not hmac.compare_digest(expected, seal.mac):
            message = "has a MAC that its key did not make: the chain was rewritten"
            return _at(seal.id, BreakKind.MAC_DIFFERS, message)
        self._add(macs_checked=1)
        return None

    def _count(self, seal: AuditSeal) -> None:
        self._add(seals=1, sealed=len(seal.entry_ids))
        last = NotedSeal(id=seal.id, hash=seal.hash)
        self.found = self.found.model_copy(update={"last": last})

    def _add(self, **more: int) -> None:
        sums = {name: getattr(self.found, name) + number for name, number in more.items()}
        self.found = self.found.model_copy(update=sums)


def _groups(seals: Sequence[AuditSeal]) -> Iterator[list[AuditSeal]]:
    """Split seals so that the entries of a group are few enough to be held at once."""
    group: list[AuditSeal] = []
    size = 0
    for seal in seals:
        if group and size + len(seal.entry_ids) > _ENTRIES_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(seal)
        size += len(seal.entry_ids)
    if group:
        yield group


def _at(seal_id: int, kind: BreakKind, message: str, entry_id: int | None = None) -> AuditBreak:
    return AuditBreak(
        kind=kind, message=f"Seal {seal_id} {message}.", seal_id=seal_id, entry_id=entry_id
    )


def _stray(kind: BreakKind, entry_id: int, message: str) -> AuditBreak:
    return AuditBreak(kind=kind, message=f"Entry {entry_id} {message}.", entry_id=entry_id)


def _span(seal: AuditSeal) -> str:
    if not seal.entry_ids:
        return "none"
    return f"{min(seal.entry_ids)} to {max(seal.entry_ids)}, {len(seal.entry_ids)} in all"
