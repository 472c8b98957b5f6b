"""The audit log: append-only, sealed beside its writers, and every kind of tampering told."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple

import pytest
from pydantic import JsonValue
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from conclave.audit.sealer import AuditSealer
from conclave.audit.sealing import hash_of, make_seal
from conclave.audit.verification import AuditVerifier
from conclave.auditing import AuditLog, changed
from conclave.crypto import Keyring, new_key
from conclave.db import Database, Transaction
from schema.domain.audit import AuditSeal, BreakKind, NotedSeal, SealableEntry, Verification

KEY, OTHER = new_key(), new_key()
KEYS = Keyring.parse(KEY)
LOG = AuditLog()


class Told(NamedTuple):
    """What verifying says of the first break."""

    kind: BreakKind
    seal_id: int | None = None
    entry_id: int | None = None


class Ledger:
    """The audit log of an empty database, and somebody who can do anything to it."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.sealer = AuditSealer(db, KEYS)

    async def write(self, *names: str) -> None:
        for name in names:
            async with self.db.transaction() as tx:
                await write(tx, name)

    async def seal(self, *names: str) -> None:
        await self.write(*names)
        assert await self.sealer.run() == len(names)

    async def verify(
        self, *, keys: Keyring | None = KEYS, noted: NotedSeal | None = None
    ) -> Verification:
        return await AuditVerifier(self.db, keys).verify(noted)

    async def tamper(self, *statements: str) -> None:
        """Do what a superuser can: triggers do not fire for replication."""
        async with self.db.transaction() as tx:
            await tx.conn.execute(text("SET LOCAL session_replication_role = replica"))
            for statement in statements:
                found = await tx.conn.execute(text(statement))
                assert found.rowcount, f"changed nothing: {statement}"

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        async with self.db.transaction() as tx:
            return [tuple(row) for row in await tx.conn.execute(text(query))]

    async def seals(self) -> list[list[int]]:
        rows = await self.rows("SELECT entry_ids FROM audit_seals ORDER BY id")
        return [ids for (ids,) in rows if isinstance(ids, list)]

    async def told(self) -> Told:
        """Verify; return the break, which must be there and whose message must say where."""
        broken = (await self.verify()).broken
        assert broken is not None
        for number in (broken.seal_id, broken.entry_id):
            assert number is None or f" {number}" in broken.message
        return Told(broken.kind, broken.seal_id, broken.entry_id)


async def write(tx: Transaction, name: str) -> None:
    await LOG.record(tx, "tea_made", "tea", name, details="für zwei\n", changes={"n": 1.50})


@pytest.fixture
def ledger(clean_database: Database) -> Ledger:
    return Ledger(clean_database)


@pytest.mark.parametrize("table", ["audit_entries", "audit_seals"])
@pytest.mark.parametrize(
    "change",
    ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}"],
    ids=["update", "delete", "truncate"],
)
async def test_the_database_refuses_whatever_is_no_insert(ledger: Ledger, table: str, change: str):
    await ledger.seal("a")
    with pytest.raises(DBAPIError, match="append-only"):
        async with ledger.db.transaction() as tx:
            await tx.conn.execute(text(change.format(table)))
    assert (await ledger.verify()).sealed == 1


async def test_an_entry_is_rolled_back_with_the_change_it_tells_of(ledger: Ledger):
    with suppress(ZeroDivisionError):
        async with ledger.db.transaction() as tx:
            await write(tx, "never")
            raise ZeroDivisionError
    assert await ledger.rows("SELECT * FROM audit_entries") == []
    assert await ledger.rows("SELECT * FROM audit_waiting") == []
    assert await ledger.sealer.run() == 0


async def test_an_empty_log_holds(ledger: Ledger):
    assert await ledger.verify() == Verification()


async def test_what_is_sealed_holds_and_is_counted(ledger: Ledger):
    await ledger.seal("a", "b")
    await ledger.seal("c")
    await ledger.write("d")
    found = await ledger.verify()
    assert found.broken is None
    assert (found.seals, found.sealed, found.waiting, found.macs_checked) == (2, 3, 1, 2)
    [(last,)] = await ledger.rows("SELECT hash FROM audit_seals WHERE id = 2")
    assert found.last == NotedSeal(id=2, hash=str(last))


async def test_a_seal_is_bounded_and_the_next_goes_on(ledger: Ledger):
    await ledger.write(*"abcde")
    sealer = AuditSealer(ledger.db, KEYS, batch=2)
    assert [await sealer.run() for _ in range(4)] == [2, 2, 1, 0]
    assert await ledger.seals() == [[1, 2], [3, 4], [5]]
    assert (await ledger.verify()).sealed == 5


async def test_writers_and_sealers_do_not_wait_for_each_other(ledger: Ledger):
    """Fifteen transactions stay open, each with an entry, while others write and seals are made."""
    async with AsyncExitStack() as late:
        held = [await late.enter_async_context(ledger.db.transaction()) for _ in range(15)]
        async with asyncio.timeout(10):
            await asyncio.gather(*(write(tx, "late") for tx in held))
            await ledger.seal("early", "early")
            await asyncio.gather(*(write(tx, "later") for tx in held))
            await ledger.seal("early")
            assert await ledger.sealer.run() == 0
        assert await ledger.seals() == [[16, 17], [33]]
        found = await ledger.verify()
        assert (found.broken, found.sealed, found.waiting) == (None, 3, 0)
    assert (await ledger.verify()).waiting == 30
    assert await ledger.sealer.run() == 30
    found = await ledger.verify()
    assert (found.broken, found.sealed, found.waiting) == (None, 33, 0)
    assert max((await ledger.seals())[2]) < 33


async def test_a_writer_does_not_wait_for_a_sealer_that_is_slow(ledger: Ledger):
    await ledger.write("a")
    async with ledger.db.transaction() as tx:
        await tx.conn.execute(text("SELECT * FROM audit_waiting FOR UPDATE"))
        async with asyncio.timeout(10):
            await ledger.write("b")
        assert await ledger.rows("SELECT resource_id FROM audit_entries ORDER BY id") == [
            ("a",),
            ("b",),
        ], "the second entry is there while the first is held"


async def test_two_sealers_at_once_make_one_chain(ledger: Ledger):
    sealers = [AuditSealer(ledger.db, KEYS, batch=3) for _ in range(4)]

    async def until_done(sealer: AuditSealer) -> int:
        done = 0
        while (await ledger.rows("SELECT count(*) FROM audit_waiting")) != [(0,)]:
            done += await sealer.run()
        return done

    await ledger.write(*("x" * 40))
    async with asyncio.timeout(20):
        done = await asyncio.gather(*map(until_done, sealers))
    assert sum(done) == 40
    found = await ledger.verify()
    assert (found.broken, found.sealed, found.waiting) == (None, 40, 0)


async def test_a_sealer_leaves_it_to_the_one_that_is_at_it(ledger: Ledger):
    await ledger.write("a")
    async with ledger.db.transaction() as tx:
        await ledger.sealer._repository.try_lock(tx)
        assert await ledger.sealer.run() == 0
    assert await ledger.sealer.run() == 1


@pytest.mark.parametrize(
    "change",
    [
        "action = 'tea_drunk'",
        "resource_type = 'coffee'",
        "resource_id = NULL",
        "actor_type = 'user'",
        "actor_id = 7",
        "details = NULL",
        """changes = '{"n": 1.500}'""",
        "ip_address = '10.0.0.1'",
        "request_id = 'other'",
        "created_at = created_at + interval '1 microsecond'",
    ],
)
async def test_a_changed_field_is_told(ledger: Ledger, change: str):
    await ledger.seal("a")
    await ledger.seal("b", "c")
    await ledger.tamper(f"UPDATE audit_entries SET {change} WHERE id = 2")
    assert await ledger.told() == Told(BreakKind.HASH_DIFFERS, seal_id=2)
    found = await ledger.verify()
    assert (found.seals, found.sealed) == (1, 1)


async def test_a_deleted_entry_is_told(ledger: Ledger):
    await ledger.seal("a", "b")
    await ledger.tamper("DELETE FROM audit_entries WHERE id = 2")
    assert await ledger.told() == Told(BreakKind.ENTRY_MISSING, seal_id=1, entry_id=2)


async def test_an_entry_deleted_before_it_was_sealed_is_told(ledger: Ledger):
    await ledger.write("a", "b")
    await ledger.tamper("DELETE FROM audit_entries WHERE id = 1")
    assert await ledger.sealer.run() == 1
    assert await ledger.told() == Told(BreakKind.ENTRY_MISSING, entry_id=1)


async def test_a_forged_entry_is_told(ledger: Ledger):
    await ledger.seal("a")
    await ledger.tamper(
        "INSERT INTO audit_entries (action, resource_type, actor_type, changes)"
        " VALUES ('tea_made', 'tea', 'system', '{}')"
    )
    assert await ledger.told() == Told(BreakKind.NEITHER_SEALED_NOR_WAITING, entry_id=2)


async def test_an_entry_that_is_sealed_again_is_told(ledger: Ledger):
    await ledger.seal("a")
    await ledger.tamper("INSERT INTO audit_waiting (entry_id) VALUES (1)")
    assert await ledger.told() == Told(BreakKind.SEALED_TWICE, entry_id=1)
    assert await ledger.sealer.run() == 1
    assert await ledger.told() == Told(BreakKind.SEALED_TWICE, entry_id=1)


async def test_entries_in_another_order_are_told(ledger: Ledger):
    await ledger.seal("a", "b")
    await ledger.tamper("UPDATE audit_seals SET entry_ids = '{2,1}'")
    assert await ledger.told() == Told(BreakKind.HASH_DIFFERS, seal_id=1)


async def test_entries_that_change_places_are_told(ledger: Ledger):
    await ledger.seal("a", "b")
    await ledger.tamper(
        "UPDATE audit_entries SET id = -id",
        "UPDATE audit_entries SET id = 3 + id",
    )
    assert await ledger.told() == Told(BreakKind.HASH_DIFFERS, seal_id=1)


@pytest.mark.parametrize(
    ("seal_id", "told"),
    [
        (1, Told(BreakKind.SEAL_MISSING, seal_id=1)),
        (2, Told(BreakKind.SEAL_MISSING, seal_id=2)),
        (3, Told(BreakKind.NEITHER_SEALED_NOR_WAITING, entry_id=3)),
    ],
)
async def test_a_removed_seal_is_told(ledger: Ledger, seal_id: int, told: Told):
    for name in "abc":
        await ledger.seal(name)
    await ledger.tamper(f"DELETE FROM audit_seals WHERE id = {seal_id}")
    assert await ledger.told() == told


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("previous_hash = repeat('0', 64)", BreakKind.LINK_DIFFERS),
        ("hash = repeat('0', 64)", BreakKind.HASH_DIFFERS),
        ("sealed_at = sealed_at - interval '1 day'", BreakKind.HASH_DIFFERS),
        ("key_id = NULL, mac = NULL", BreakKind.HASH_DIFFERS),
        ("mac = NULL", BreakKind.MAC_MISSING),
        ("mac = repeat('0', 64)", BreakKind.MAC_DIFFERS),
    ],
)
async def test_a_changed_seal_is_told(ledger: Ledger, change: str, kind: BreakKind):
    for name in "abc":
        await ledger.seal(name)
    await ledger.tamper(f"UPDATE audit_seals SET {change} WHERE id = 2")
    assert await ledger.told() == Told(kind, seal_id=2)


async def rewrite(ledger: Ledger, keys: Keyring | None) -> None:
    """Change an entry and make every seal anew, as who has the program but not the key can."""
    await ledger.tamper("UPDATE audit_entries SET actor_id = 666 WHERE id = 2")
    repository = ledger.sealer._repository
    async with ledger.db.transaction() as tx:
        old = await repository.seals_after(tx, 0, 100)
        previous: AuditSeal | None = None
        await tx.conn.execute(text("SET LOCAL session_replication_role = replica"))
        await tx.conn.execute(text("TRUNCATE audit_seals"))
        for seal in old:
            entries = await repository.entries(tx, seal.entry_ids)
            in_order = [entries[entry_id] for entry_id in seal.entry_ids]
            previous = make_seal(previous, in_order, seal.sealed_at, keys)
            if keys is not None and seal.key_id is not None:
                forged = previous.model_copy(update={"key_id": seal.key_id})
                previous = forged.model_copy(update={"hash": hash_of(forged, in_order)})
            await repository.add_seal(tx, previous)


async def test_a_chain_rewritten_without_the_key_is_told_by_its_macs(ledger: Ledger):
    for name in "abc":
        await ledger.seal(name)
    noted = (await ledger.verify()).last
    assert noted is not None
    await rewrite(ledger, Keyring.parse(OTHER))
    assert await ledger.told() == Told(BreakKind.MAC_DIFFERS, seal_id=1)
    # Who has no key must have noted a seal.
    without = await ledger.verify(keys=None)
    assert (without.broken, without.macs_checked, without.macs_unchecked) == (None, 0, 3)
    found = await ledger.verify(keys=None, noted=noted)
    assert found.broken is not None
    assert found.broken.kind is BreakKind.NOTED_SEAL_DIFFERS


async def test_a_chain_rewritten_without_macs_shows_that_it_has_none(ledger: Ledger):
    for name in "abc":
        await ledger.seal(name)
    await rewrite(ledger, None)
    found = await ledger.verify()
    assert (found.broken, found.macs_checked, found.macs_absent) == (None, 0, 3)


async def test_seals_after_one_that_was_checked_must_be_checkable(ledger: Ledger):
    await ledger.seal("a")
    await ledger.write("b")
    await AuditSealer(ledger.db, None).run()
    assert await ledger.told() == Told(BreakKind.MAC_MISSING, seal_id=2)


async def test_a_key_that_is_not_at_hand_is_told_after_those_that_are(ledger: Ledger):
    await ledger.seal("a")
    await ledger.write("b")
    await AuditSealer(ledger.db, Keyring.parse(OTHER)).run()
    assert await ledger.told() == Told(BreakKind.KEY_UNKNOWN, seal_id=2)
    both = await ledger.verify(keys=Keyring.parse(f"{OTHER},{KEY}"))
    assert (both.broken, both.macs_checked) == (None, 2)
    # The other way round it is a key that was rotated away.
    later = await ledger.verify(keys=Keyring.parse(OTHER))
    assert (later.broken, later.macs_unchecked, later.macs_checked) == (None, 1, 1)


async def test_a_log_without_a_key_is_sealed_all_the_same(ledger: Ledger):
    await ledger.write("a")
    assert await AuditSealer(ledger.db, None).run() == 1
    await ledger.seal("b")
    found = await ledger.verify()
    assert (found.broken, found.macs_absent, found.macs_checked) == (None, 1, 1)


async def test_a_chain_cut_at_its_end_is_told_by_a_seal_that_was_noted(ledger: Ledger):
    await ledger.seal("a")
    await ledger.seal("b")
    noted = (await ledger.verify()).last
    assert noted is not None
    assert (await ledger.verify(noted=noted)).broken is None
    await ledger.tamper(
        "DELETE FROM audit_seals WHERE id = 2", "DELETE FROM audit_entries WHERE id = 2"
    )
    assert (await ledger.verify()).broken is None
    found = await ledger.verify(noted=noted)
    assert found.broken is not None
    assert found.broken.kind is BreakKind.NOTED_SEAL_DIFFERS
    assert found.broken.seal_id == 2


async def test_verifying_goes_in_batches(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("conclave.audit.verification._SEALS_AT_ONCE", 3)
    monkeypatch.setattr("conclave.audit.verification._ENTRIES_AT_ONCE", 4)
    await ledger.write(*("x" * 35))
    sealer = AuditSealer(ledger.db, KEYS, batch=3)
    while await sealer.run():
        pass
    verifier = AuditVerifier(ledger.db, KEYS)
    asked: list[int] = []
    entries = verifier._repository.entries

    async def counted(tx: Transaction, ids: list[int]) -> dict[int, SealableEntry]:
        asked.append(len(ids))
        return await entries(tx, ids)

    monkeypatch.setattr(verifier._repository, "entries", counted)
    found = await verifier.verify()
    assert (found.broken, found.sealed, found.seals) == (None, 35, 12)
    assert sum(asked) == 35
    assert max(asked) <= 4


async def test_where_nothing_waits_a_sealer_makes_one_statement(ledger: Ledger):
    seen: list[str] = []

    def count(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(ledger.db.engine.sync_engine, "before_cursor_execute", count)
    try:
        assert await ledger.sealer.run() == 0
    finally:
        event.remove(ledger.db.engine.sync_engine, "before_cursor_execute", count)
    assert len(seen) == 1, seen


def test_changes_tell_what_differs_and_no_secret_and_no_long_text():
    before: dict[str, JsonValue] = {
        "a": 1,
        "b": None,
        "c": "x" * 501,
        "api_key": "sk-1",
        "same": [1],
        "gone": "g",
    }
    after: dict[str, JsonValue] = {
        "a": 2,
        "b": {"password": "p", "user": "u", "deep": [{"accessKey": "k", "max_tokens": 3}]},
        "c": "y" * 502,
        "api_key": "sk-2",
        "same": [1],
        "new_token": "t",
        "list": ["z" * 300, "z" * 300],
    }
    assert changed(before, after) == {
        "a": {"before": 1, "after": 2},
        "api_key": {"before": "***", "after": "***"},
        "b": {
            "before": None,
            "after": {
                "password": "***",
                "user": "u",
                "deep": [{"accessKey": "***", "max_tokens": 3}],
            },
        },
        "c": {"before": "(501 characters)", "after": "(502 characters)"},
        "gone": {"before": "g", "after": None},
        "list": {"before": None, "after": "(608 characters of JSON)"},
        "new_token": {"before": None, "after": "***"},
    }
