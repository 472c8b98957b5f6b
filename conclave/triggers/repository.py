"""All SQL on triggers themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import ColumnElement, case, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute

from conclave.db import Transaction
from conclave.triggers.commands import TriggerFilter
from conclave.triggers.errors import SlugTaken
from schema.domain.base import Shape
from schema.domain.identity import LOCAL_PRINCIPAL, PrincipalKind, Role
from schema.domain.triggers import RunStatus, Trigger, TriggerType
from schema.tables.agents import AgentRow
from schema.tables.circles import CircleRow
from schema.tables.identity import UserRow
from schema.tables.triggers import EventCursorRow, TriggerRow

_LIVING = TriggerRow.deleted_at.is_(None)
_OWN: tuple[InstrumentedAttribute[object], ...] = tuple(
    getattr(TriggerRow, name)
    for name in Trigger.model_fields
    if name not in {"action", "has_secret", "agent_name"}
)
_SELECT = select(
    *_OWN,
    func.jsonb_build_object(
        "type", TriggerRow.action_type, "config", TriggerRow.action_config
    ).label("action"),
    or_(TriggerRow.secret.is_not(None), TriggerRow.config.has_key("secret")).label("has_secret"),
    AgentRow.name.label("agent_name"),
).outerjoin(AgentRow, AgentRow.id == TriggerRow.agent_id)
_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 16))")
_ADMINS_KEYS = (LOCAL_PRINCIPAL.key, PrincipalKind.GATEWAY.value)


class Listener(Shape):
    """An active event trigger, as far as matching needs it."""

    id: int
    event_type: str
    filters: dict[str, object]
    created_by_key: str
    is_admins: bool
    """Made by somebody who may see what administrators see."""
    armed_at: datetime


class Threshold(Shape):
    """An active threshold as it stands. `over_seconds`: for how long it has held; None: not."""

    id: int
    config: dict[str, JsonValue]
    over_seconds: float | None
    has_crossed: bool
    crossings: int


class Sealed(Shape):
    """A trigger's sealed values."""

    secret: bytes | None
    action_secrets: bytes | None


class TriggerRepository:
    """Reads and writes triggers. What is locked: firings before their trigger."""

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> int:
        """Store a trigger and return its id. Raises `SlugTaken`."""
        try:
            added = await tx.conn.execute(
                insert(TriggerRow).values(**values).returning(TriggerRow.id)
            )
        except IntegrityError:
            raise SlugTaken(str(values.get("slug"))) from None
        return added.scalar_one()

    async def update(
        self,
        tx: Transaction,
        trigger_id: int,
        values: Mapping[str, object],
        *,
        arm: bool = False,
    ) -> None:
        """Change a trigger, which raises its revision; `arm`: what is from now on fires it.

        Raises `SlugTaken`.
        """
        armed = {"armed_at": func.clock_timestamp()} if arm else {}
        try:
            await tx.conn.execute(
                update(TriggerRow)
                .where(TriggerRow.id == trigger_id)
                .values(
                    **values,
                    **armed,
                    revision=TriggerRow.revision + 1,
                    updated_at=func.clock_timestamp(),
                )
            )
        except IntegrityError:
            raise SlugTaken(str(values.get("slug"))) from None

    async def delete(self, tx: Transaction, trigger_id: int) -> None:
        """Remove a trigger and forget its secrets; its history stays."""
        values = {"is_active": False, "deleted_at": func.clock_timestamp()}
        await self.update(tx, trigger_id, {**values, "secret": None, "action_secrets": None})

    async def seal(self, tx: Transaction, trigger_id: int, values: Mapping[str, object]) -> None:
        """Store sealed values of a trigger made in this transaction: they need its id."""
        await tx.conn.execute(
            update(TriggerRow).where(TriggerRow.id == trigger_id).values(**values)
        )

    async def get(self, tx: Transaction, trigger_id: int, *, lock: bool = False) -> Trigger | None:
        """Return one that is not deleted."""
        statement = _SELECT.where(TriggerRow.id == trigger_id, _LIVING)
        if lock:
            statement = statement.with_for_update(of=TriggerRow)
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Trigger.model_validate(row)

    async def by_slug(self, tx: Transaction, slug: str) -> Trigger | None:
        """Return the one whose webhooks arrive there."""
        row = await tx.conn.execute(_SELECT.where(TriggerRow.slug == slug, _LIVING))
        found = row.mappings().one_or_none()
        return None if found is None else Trigger.model_validate(found)

    async def sealed(self, tx: Transaction, trigger_id: int) -> Sealed:
        """Return its sealed values."""
        row = await tx.conn.execute(
            select(TriggerRow.secret, TriggerRow.action_secrets).where(TriggerRow.id == trigger_id)
        )
        return Sealed.model_validate(row.mappings().one())

    async def list(
        self, tx: Transaction, wanted: TriggerFilter, limit: int, offset: int
    ) -> tuple[Sequence[Trigger], int]:
        """Return a page, newest first, and the number of all."""
        conditions: list[ColumnElement[bool]] = [_LIVING]
        if wanted.type is not None:
            conditions.append(TriggerRow.type == wanted.type)
        if wanted.is_active is not None:
            conditions.append(TriggerRow.is_active == wanted.is_active)
        total = await tx.conn.scalar(
            select(func.count()).select_from(TriggerRow).where(*conditions)
        )
        rows = await tx.conn.execute(
            _SELECT.where(*conditions).order_by(TriggerRow.id.desc()).limit(limit).offset(offset)
        )
        return [Trigger.model_validate(row) for row in rows.mappings()], total or 0

    async def exists(self, tx: Transaction, trigger_id: int) -> bool:
        """Whether there ever was one of that id, deleted ones too."""
        found = select(TriggerRow.id).where(TriggerRow.id == trigger_id)
        return await tx.conn.scalar(found) is not None

    async def alone(self, tx: Transaction, name: str) -> None:
        """Wait until nobody else is at it; until the transaction ends nobody will be."""
        await tx.conn.execute(_ALONE, {"name": name})

    async def count_fired(self, tx: Transaction, trigger_id: int, status: RunStatus) -> None:
        """Note how a firing ended. Skipped ones are not counted as firings."""
        values: dict[str, object] = {"last_status": status}
        if status is not RunStatus.SKIPPED:
            values["fire_count"] = TriggerRow.fire_count + 1
            values["last_fired_at"] = func.clock_timestamp()
        await tx.conn.execute(
            update(TriggerRow).where(TriggerRow.id == trigger_id).values(**values)
        )

    async def using_secret(self, tx: Transaction, name: str) -> Sequence[int]:
        """Return the triggers that refer to a secret of the vault."""
        rows = await tx.conn.scalars(
            select(TriggerRow.id)
            .where(_LIVING, TriggerRow.secret_names.contains([name]))
            .order_by(TriggerRow.id)
        )
        return rows.all()

    async def has_agents(self, tx: Transaction, agent_ids: Collection[int]) -> set[int]:
        """Return those of the ids that are agents'."""
        rows = await tx.conn.scalars(
            select(AgentRow.id).where(AgentRow.id.in_(agent_ids), AgentRow.deleted_at.is_(None))
        )
        return set(rows)

    async def has_circle(self, tx: Transaction, name: str) -> bool:
        """Whether there is a circle of that name."""
        found = select(CircleRow.id).where(CircleRow.name == name, CircleRow.deleted_at.is_(None))
        return await tx.conn.scalar(found) is not None

    async def has_user(self, tx: Transaction, user_id: int) -> bool:
        """Whether there is such a user."""
        found = select(UserRow.id).where(UserRow.id == user_id, UserRow.deleted_at.is_(None))
        return await tx.conn.scalar(found) is not None

    async def with_rhythm(self, tx: Transaction, every_seconds: int) -> bool:
        """Whether an active threshold is looked at with this rhythm."""
        found = select(TriggerRow.id).where(
            TriggerRow.check_every_seconds == every_seconds, TriggerRow.is_active, _LIVING
        )
        return await tx.conn.scalar(found.limit(1)) is not None

    async def of_rhythm(self, tx: Transaction, every_seconds: int) -> list[Threshold]:
        """Return the active thresholds that are looked at so often, locked, by id."""
        since = func.extract("epoch", func.clock_timestamp() - TriggerRow.over_since)
        rows = await tx.conn.execute(
            select(
                TriggerRow.id,
                TriggerRow.config,
                since.label("over_seconds"),
                TriggerRow.has_crossed,
                TriggerRow.crossings,
            )
            .where(TriggerRow.check_every_seconds == every_seconds, TriggerRow.is_active, _LIVING)
            .order_by(TriggerRow.id)
            .with_for_update()
        )
        return [Threshold.model_validate(row) for row in rows.mappings()]

    async def note_over(self, tx: Transaction, trigger_ids: Collection[int]) -> None:
        """Note that these thresholds hold from now on."""
        await self._note(tx, trigger_ids, {"over_since": func.clock_timestamp()})

    async def note_back(self, tx: Transaction, trigger_ids: Collection[int]) -> None:
        """Note that these do not hold any more: they may be crossed again."""
        await self._note(tx, trigger_ids, {"over_since": None, "has_crossed": False})

    async def note_crossed(self, tx: Transaction, trigger_ids: Collection[int]) -> None:
        """Note that these were crossed, and have fired for it."""
        values = {"has_crossed": True, "crossings": TriggerRow.crossings + 1}
        await self._note(tx, trigger_ids, values)

    async def _note(
        self, tx: Transaction, trigger_ids: Collection[int], values: Mapping[str, object]
    ) -> None:
        if trigger_ids:
            statement = update(TriggerRow).where(TriggerRow.id.in_(trigger_ids))
            await tx.conn.execute(statement.values(**values))


class ListenerRepository:
    """What the reader of events asks, and how far it came."""

    async def begin(self, tx: Transaction, name: str, xid: int, event_id: int) -> None:
        """Make a reader's place where it has none."""
        await tx.conn.execute(
            upsert(EventCursorRow)
            .values(name=name, xid=xid, event_id=event_id)
            .on_conflict_do_nothing()
        )

    async def take(self, tx: Transaction, name: str) -> tuple[int, int] | None:
        """Return a reader's place, held until the transaction ends.

        None where another process holds it, or there is none yet.
        """
        row = await tx.conn.execute(
            select(EventCursorRow.xid, EventCursorRow.event_id)
            .where(EventCursorRow.name == name)
            .with_for_update(skip_locked=True)
        )
        found = row.one_or_none()
        return None if found is None else (found.xid, found.event_id)

    async def move(self, tx: Transaction, name: str, xid: int, event_id: int) -> None:
        """Store how far a reader came."""
        await tx.conn.execute(
            update(EventCursorRow)
            .where(EventCursorRow.name == name)
            .values(xid=xid, event_id=event_id, updated_at=func.clock_timestamp())
        )

    async def version(self, tx: Transaction) -> int:
        """Return a number that every change of an event trigger raises."""
        found = await tx.conn.scalar(
            select(func.coalesce(func.sum(TriggerRow.revision), 0)).where(
                TriggerRow.type == TriggerType.EVENT
            )
        )
        return int(found or 0)

    async def listeners(self, tx: Transaction) -> list[Listener]:
        """Return every active event trigger."""
        is_admins = case(
            (TriggerRow.created_by_key.in_(_ADMINS_KEYS), True),
            else_=func.coalesce(
                (UserRow.role == Role.ADMIN) & UserRow.is_active & UserRow.deleted_at.is_(None),
                False,
            ),
        )
        rows = await tx.conn.execute(
            select(
                TriggerRow.id,
                TriggerRow.config["event_type"].astext.label("event_type"),
                TriggerRow.config["filters"].label("filters"),
                TriggerRow.created_by_key,
                is_admins.label("is_admins"),
                TriggerRow.armed_at,
            )
            .outerjoin(UserRow, UserRow.id == TriggerRow.created_by)
            .where(TriggerRow.type == TriggerType.EVENT, TriggerRow.is_active, _LIVING)
        )
        return [Listener.model_validate(row) for row in rows.mappings()]
