"""Use cases of triggers, as the dialects call them.

A change of a trigger is committed with what is owed to the engine for it (`dispatch`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.db import Database, Transaction
from conclave.events import EventLog
from conclave.ports.triggers import TriggerEngine
from conclave.triggers.commands import (
    CreateTrigger,
    MadeTrigger,
    NewFiring,
    TriggerFilter,
    UpdateTrigger,
)
from conclave.triggers.consumer import READER
from conclave.triggers.dispatch import TriggerDispatch
from conclave.triggers.drafting import Drafting
from conclave.triggers.errors import TriggerNotFound
from conclave.triggers.repository import ListenerRepository, TriggerRepository
from conclave.triggers.run_repository import RunRepository
from schema.domain.identity import Principal
from schema.domain.triggers import (
    ENDS,
    RunStatus,
    Trigger,
    TriggerAction,
    TriggerDetail,
    TriggerRun,
    TriggerType,
)

_RECENT = 5


class TriggerService:
    """Creates, reads, changes and removes triggers. A `SecretUser`."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        audit: AuditLog,
        dispatch: TriggerDispatch,
        engine: TriggerEngine,
        drafting: Drafting,
    ) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._dispatch = dispatch
        self._engine = engine
        self._drafting = drafting
        self._triggers = TriggerRepository()
        self._listeners = ListenerRepository()
        self._runs = RunRepository()

    async def create(self, command: CreateTrigger, principal: Principal) -> MadeTrigger:
        """Store a trigger; what is shown of its secret is shown this once.

        Raises `Invalid`, `Missing`, `SlugTaken` and `EncryptionKeyMissing`.
        """
        draft = self._drafting.of_new(command, datetime.now(UTC))
        async with self._db.transaction() as tx:
            await self._drafting.require(tx, draft)
            trigger_id = await self._triggers.insert(
                tx,
                {
                    **draft.columns,
                    "name": command.name,
                    "is_active": command.is_active,
                    "created_by": principal.user_id,
                    "created_by_key": principal.key,
                },
            )
            sealed = self._drafting.sealed(trigger_id, draft)
            if sealed:
                await self._triggers.seal(tx, trigger_id, sealed)
            trigger = await self._get(tx, trigger_id)
            await self._owe(tx, None, trigger)
            await self._audit.record(
                tx, "trigger_created", "trigger", trigger_id, changes=changed({}, _told(trigger))
            )
        return MadeTrigger(trigger=trigger, secret=draft.shown_secret)

    async def update(self, trigger_id: int, command: UpdateTrigger) -> Trigger:
        """Change a trigger. Raises as `create` does, and `TriggerNotFound`."""
        async with self._db.transaction() as tx:
            before = await self._get(tx, trigger_id, lock=True)
            sealed = await self._triggers.sealed(tx, trigger_id)
            draft = self._drafting.of_change(before, command, sealed, datetime.now(UTC))
            await self._drafting.require(tx, draft)
            values = draft.columns | self._drafting.sealed(trigger_id, draft)
            if command.name is not None:
                values["name"] = command.name
            return await self._change(tx, before, values, command.is_active, "trigger_updated")

    async def toggle(self, trigger_id: int, enabled: bool | None) -> Trigger:
        """Make a trigger active or not; None: the other of what it is."""
        async with self._db.transaction() as tx:
            before = await self._get(tx, trigger_id, lock=True)
            wanted = not before.is_active if enabled is None else enabled
            return await self._change(tx, before, {}, wanted, "trigger_toggled")

    async def _change(
        self,
        tx: Transaction,
        before: Trigger,
        values: dict[str, object],
        is_active: bool | None,
        action: str,
    ) -> Trigger:
        active = before.is_active if is_active is None else is_active
        values = values | {"is_active": active}
        arm = active and (not before.is_active or "config" in values)
        if "config" in values or active != before.is_active:
            values |= {"over_since": None, "has_crossed": False}
        await self._triggers.update(tx, before.id, values, arm=arm)
        after = await self._get(tx, before.id)
        await self._owe(tx, before, after)
        await self._audit.record(
            tx, action, "trigger", before.id, changes=changed(_told(before), _told(after))
        )
        return after

    async def delete(self, trigger_id: int) -> None:
        """Remove a trigger: its schedule goes, its address is free again, its history stays."""
        async with self._db.transaction() as tx:
            before = await self._get(tx, trigger_id, lock=True)
            await self._triggers.delete(tx, trigger_id)
            await self._owe(tx, before, None)
            await self._audit.record(tx, "trigger_deleted", "trigger", trigger_id)

    async def fire(self, trigger_id: int, event: dict[str, JsonValue]) -> int:
        """Fire a trigger now, active or not, as if this had happened; return the firing's id."""
        async with self._db.transaction() as tx:
            await self._get(tx, trigger_id)
            new = NewFiring(
                trigger_id=trigger_id, firing_key=f"test-{uuid.uuid4().hex}", event_data=event
            )
            run_id = await self._runs.insert(tx, new)
            assert run_id is not None
            await self._dispatch.owe_firings(tx, [run_id])
            await self._audit.record(tx, "trigger_tested", "trigger", trigger_id)
        return run_id

    async def get(self, trigger_id: int) -> TriggerDetail:
        """Return a trigger with its history in short. Raises `TriggerNotFound`."""
        async with self._db.transaction() as tx:
            trigger = await self._get(tx, trigger_id)
            stats = await self._runs.stats(tx, trigger_id)
            recent, _ = await self._runs.list(tx, trigger_id, ENDS, _RECENT, 0)
        times = await self.next_times([trigger])
        return TriggerDetail(
            trigger=trigger,
            stats=stats,
            recent=list(recent),
            next_fire_at=times.get(trigger_id),
        )

    async def list(
        self, wanted: TriggerFilter, limit: int, offset: int
    ) -> tuple[Sequence[Trigger], int]:
        """Return a page, newest first, and the number of all."""
        async with self._db.transaction() as tx:
            return await self._triggers.list(tx, wanted, limit, offset)

    async def next_times(self, triggers: Sequence[Trigger]) -> dict[int, datetime]:
        """Return when those with a schedule fire next, as far as the engine tells."""
        asked = [one.id for one in triggers if one.type.is_scheduled and one.is_active]
        return dict(await self._engine.next_times(asked)) if asked else {}

    async def history(
        self, trigger_id: int, status: RunStatus | None, limit: int, offset: int
    ) -> tuple[Sequence[TriggerRun], int]:
        """Return a page of the firings that have ended, newest first, and the number of all."""
        async with self._db.transaction() as tx:
            await self._get(tx, trigger_id)
            wanted = ENDS if status is None else (status,)
            return await self._runs.list(tx, trigger_id, wanted, limit, offset)

    async def uses_of(self, tx: Transaction, name: str) -> Sequence[str]:
        """Return the triggers that refer to a secret of the vault."""
        return [f"trigger {found}" for found in await self._triggers.using_secret(tx, name)]

    async def _get(self, tx: Transaction, trigger_id: int, *, lock: bool = False) -> Trigger:
        found = await self._triggers.get(tx, trigger_id, lock=lock)
        if found is None:
            raise TriggerNotFound(trigger_id)
        return found

    async def _owe(self, tx: Transaction, before: Trigger | None, after: Trigger | None) -> None:
        """Owe the engine what this change means for it."""
        present = [one for one in (before, after) if one is not None]
        trigger_id = present[0].id
        if any(one.type.is_scheduled for one in present):
            await self._dispatch.owe_schedule(tx, trigger_id)
        rhythms = {_rhythm(one) for one in present} - {None}
        for every in sorted(one for one in rhythms if one is not None):
            await self._dispatch.owe_rhythm(tx, every)
        if after is not None and after.type is TriggerType.EVENT:
            await self._listeners.begin(tx, READER, *await self._events.head(tx))


def _rhythm(trigger: Trigger) -> int | None:
    every = trigger.config.get("check_every_seconds")
    is_threshold = trigger.type is TriggerType.THRESHOLD
    return every if is_threshold and isinstance(every, int) else None


def _told(trigger: Trigger) -> dict[str, JsonValue]:
    """Return what the audit log tells of a trigger: secrets stand in neither part."""
    action: TriggerAction = trigger.action
    return {
        "name": trigger.name,
        "type": trigger.type.value,
        "config": trigger.config,
        "action": {"type": action.type.value, "config": action.config},
        "is_active": trigger.is_active,
    }
