"""The inbox and the outbox, which make what a request says to a workflow safe.

A request is an inbox row first, committed together with an outbox row: the wake-up owed to the
engine. Whoever is told deletes the outbox row; what a crash leaves is delivered by the relay.
The same idempotency key of the same principal to the same target is the same inbox row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    Integer,
    String,
    Text,
    bindparam,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from conclave.db import Transaction
from conclave.errors import Conflict
from schema.domain.base import Shape
from schema.domain.inbox import InboxItem, InboxKind, InboxStatus
from schema.tables.inbox import InboxRow, OutboxRow

WAITING = (InboxStatus.PENDING, InboxStatus.CLAIMED)
_BACKOFF_LIMIT_SECONDS = 60


class Letter(Shape):
    """A request about to be stored."""

    target: str
    principal: str
    idempotency_key: str
    prompt: str | None
    agent_id: int | None
    mentions: list[int]
    kind: InboxKind = InboxKind.TURN

    @property
    def request_hash(self) -> str:
        """What tells two requests under one key apart."""
        text = f"{self.agent_id}\x00{'' if self.prompt is None else '1' + self.prompt}"
        return hashlib.sha256(text.encode()).hexdigest()


class InboxEntry(Shape):
    """A stored request; its answer is read with the conversation it is about."""

    id: int
    kind: InboxKind
    request_hash: str
    agent_id: int | None
    mentions: list[int]
    prompt: str | None
    status: InboxStatus

    @property
    def item(self) -> InboxItem:
        """The request as the workflow sees it."""
        return InboxItem(
            id=self.id,
            kind=self.kind,
            agent_id=self.agent_id,
            mentions=self.mentions,
            prompted=self.prompt is not None,
        )

    @property
    def is_answered(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in WAITING


class Delivery(Shape):
    """To whom a wake-up is owed."""

    target_kind: str
    target_id: int


_ENTRY = (
    InboxRow.id,
    InboxRow.kind,
    InboxRow.request_hash,
    InboxRow.agent_id,
    InboxRow.mentions,
    InboxRow.prompt,
    InboxRow.status,
)


_SOON = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, 2)
_NEW = (
    insert(InboxRow)
    .values(
        target=bindparam("target_", type_=String),
        principal=bindparam("principal_", type_=String),
        idempotency_key=bindparam("idempotency_key_", type_=String),
        request_hash=bindparam("request_hash_", type_=String),
        kind=bindparam("kind_", type_=String),
        prompt=bindparam("prompt_", type_=Text),
        agent_id=bindparam("agent_id_", type_=BigInteger),
        mentions=bindparam("mentions_", type_=ARRAY(BigInteger)),
    )
    .on_conflict_do_nothing()
    .returning(*_ENTRY)
    .cte("new")
)
_OWED = (
    insert(OutboxRow)
    .from_select(
        ["target_kind", "target_id", "inbox_id", "due_at"],
        select(
            bindparam("target_kind_", type_=String),
            bindparam("target_id_", type_=BigInteger),
            _NEW.c.id,
            _SOON,
        ),
    )
    .cte("owed")
)
_PUT = select(_NEW).add_cte(_OWED)
_LONGEST = literal(_BACKOFF_LIMIT_SECONDS)
_TAKE_DUE = (
    update(OutboxRow)
    .where(
        OutboxRow.id.in_(
            select(OutboxRow.id)
            .where(OutboxRow.due_at <= func.clock_timestamp())
            .order_by(OutboxRow.due_at)
            .limit(bindparam("most", type_=Integer))
            .with_for_update(skip_locked=True)
        )
    )
    .values(
        attempts=OutboxRow.attempts + literal(1),
        due_at=func.clock_timestamp()
        + func.make_interval(
            0, 0, 0, 0, 0, 0, func.least(2 * func.power(2, OutboxRow.attempts), _LONGEST)
        ),
    )
    .returning(OutboxRow.target_kind, OutboxRow.target_id)
)


class Mailbox:
    """All SQL on the inbox and the outbox."""

    async def put(
        self, tx: Transaction, letter: Letter, target_kind: str, target_id: int
    ) -> InboxEntry:
        """Store a request and the wake-up owed for it, or find the one its key stands for.

        The wake-up is due a moment later, so that whoever made it can deliver it first.
        """
        values = letter.model_dump() | {"request_hash": letter.request_hash}
        added = await tx.conn.execute(
            _PUT,
            {f"{name}_": value for name, value in values.items()}
            | {"target_kind_": target_kind, "target_id_": target_id},
        )
        row = added.mappings().one_or_none()
        if row is not None:
            return InboxEntry.model_validate(row)
        found = await self.find(tx, letter.principal, letter.target, letter.idempotency_key)
        if found is None:
            raise Conflict("The request with this Idempotency-Key is gone")
        return found

    async def get(self, tx: Transaction, inbox_id: int) -> InboxEntry:
        """Return one request."""
        row = await tx.conn.execute(select(*_ENTRY).where(InboxRow.id == inbox_id))
        return InboxEntry.model_validate(row.mappings().one())

    async def find(
        self, tx: Transaction, principal: str, target: str, idempotency_key: str
    ) -> InboxEntry | None:
        """Return the request a key stands for, if it came before."""
        row = await tx.conn.execute(
            select(*_ENTRY).where(
                InboxRow.principal == principal,
                InboxRow.target == target,
                InboxRow.idempotency_key == idempotency_key,
            )
        )
        found = row.mappings().one_or_none()
        return None if found is None else InboxEntry.model_validate(found)

    async def waiting(self, tx: Transaction, target: str) -> list[InboxItem]:
        """Return what is not answered yet, in order."""
        rows = await tx.conn.execute(
            select(*_ENTRY)
            .where(InboxRow.target == target, InboxRow.status.in_(WAITING))
            .order_by(InboxRow.id)
        )
        return [InboxEntry.model_validate(row).item for row in rows.mappings()]

    async def settle(
        self,
        tx: Transaction,
        *,
        target: str,
        status: InboxStatus,
        answer: dict[str, JsonValue],
        inbox_id: int | None = None,
    ) -> None:
        """Close one waiting request of a target, or all of them, with an answer."""
        statement = (
            update(InboxRow)
            .where(InboxRow.target == target, InboxRow.status.in_(WAITING))
            .values(status=status, answer=answer, done_at=func.clock_timestamp())
        )
        if inbox_id is not None:
            statement = statement.where(InboxRow.id == inbox_id)
        await tx.conn.execute(statement)

    async def owe(self, tx: Transaction, target_kind: str, target_id: int) -> None:
        """Store a wake-up with the change it tells of.

        It is due a moment later, so that whoever made it can deliver it first.
        """
        await tx.conn.execute(
            insert(OutboxRow).values(target_kind=target_kind, target_id=target_id, due_at=_SOON)
        )

    async def owed(self, tx: Transaction, target_kind: str, target_id: int) -> list[int]:
        """Return the ids of the wake-ups that are owed to a target."""
        rows = await tx.conn.scalars(
            select(OutboxRow.id).where(
                OutboxRow.target_kind == target_kind, OutboxRow.target_id == target_id
            )
        )
        return list(rows)

    async def delivered(self, tx: Transaction, outbox_ids: Sequence[int]) -> None:
        """Forget wake-ups that were delivered."""
        await tx.conn.execute(delete(OutboxRow).where(OutboxRow.id.in_(outbox_ids)))

    async def take_due(self, tx: Transaction, limit: int) -> list[Delivery]:
        """Return wake-ups that are due and put them off, so that no other relay takes them.

        The wait doubles with each attempt, from 2 s to a minute.
        """
        rows = await tx.conn.execute(_TAKE_DUE, {"most": limit})
        return [Delivery.model_validate(row) for row in rows.mappings()]
