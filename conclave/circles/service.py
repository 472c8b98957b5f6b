"""Circles: their life, their rules and who is in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.circles.commands import AddMember, CreateCircle, UpdateCircle
from conclave.circles.errors import (
    AlreadyMember,
    CircleFull,
    CircleNameTaken,
    CircleNotFound,
    CircleWrongStatus,
    NoSuchAgent,
    NotMember,
    TooManyMembers,
)
from conclave.circles.repository import CircleRepository
from conclave.db import Database, Transaction
from conclave.events import EventLog
from conclave.merging import merge
from conclave.ports.engine import ConversationControl
from schema.domain.circles import Circle, CircleConfig, CircleStatus, Member
from schema.domain.events import EventDraft, EventType

_CREATED, _ACTIVE = CircleStatus.CREATED, CircleStatus.ACTIVE
_PAUSED, _ARCHIVED = CircleStatus.PAUSED, CircleStatus.ARCHIVED
CircleEffect = Callable[[Transaction, int], Awaitable[None]]


class CircleService:
    """The use cases of circles. What changes one locks its row first."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        audit: AuditLog,
        conversations: ConversationControl,
    ) -> None:
        self._db = db
        self._events = events
        self._audit = audit
        self._conversations = conversations
        self._circles = CircleRepository()

    async def create(self, command: CreateCircle) -> Circle:
        """Store a new circle. Raises `CircleNameTaken`."""
        async with self._db.transaction() as tx:
            if await self._circles.insert(tx, command.model_dump(mode="json")) is None:
                raise CircleNameTaken(command.name)
            circle = await self._get(tx, command.name)
            await self._tell(tx, EventType.CIRCLE_CREATED, circle)
            await self._record(tx, "created", circle.id, changed({}, _columns(circle)))
        return circle

    async def get(self, name: str) -> Circle:
        """Return one circle. Raises `CircleNotFound`."""
        async with self._db.transaction() as tx:
            return await self._get(tx, name)

    async def list(self, limit: int, offset: int) -> tuple[Sequence[Circle], int]:
        """Return a piece of the list and the length of the whole."""
        async with self._db.transaction() as tx:
            return await self._circles.list(tx, limit, offset)

    async def update(self, name: str, command: UpdateCircle) -> Circle:
        """Apply what was set. Raises `Invalid` naming the key, `Conflict` by the state."""
        values: dict[str, object] = command.model_dump(mode="json", exclude_unset=True)
        async with self._db.transaction() as tx:
            circle = await self._locked(tx, name)
            if circle.status is _ARCHIVED:
                raise CircleWrongStatus(name, "changed", circle.status)
            if "config" in values:
                stored = circle.config.model_dump()
                config = merge(CircleConfig, stored, command.config, "config")
                if config.max_agents < circle.agent_count:
                    raise TooManyMembers(name, circle.agent_count, config.max_agents)
                values["config"] = config.model_dump(mode="json")
            if not values:
                return circle
            await self._circles.update(tx, circle.id, values)
            updated = await self._get(tx, name)
            told: list[JsonValue] = [*sorted(values)]
            await self._tell(tx, EventType.CIRCLE_UPDATED, updated, changed=told)
            changes = changed(_columns(circle), _columns(updated))
            await self._record(tx, "updated", circle.id, changes)
        return updated

    async def delete(self, name: str) -> None:
        """Delete softly, ending its conversations. An active circle is refused."""
        async with self._db.transaction() as tx:
            circle = await self._locked(tx, name)
            if circle.status is _ACTIVE:
                raise CircleWrongStatus(name, "deleted", circle.status)
            await self._conversations.end_circle(tx, circle.id)
            await self._circles.delete(tx, circle.id)
            await self._tell(tx, EventType.CIRCLE_DELETED, circle)
            await self._record(tx, "deleted", circle.id, changed(_columns(circle), {}))

    async def start(self, name: str) -> Circle:
        """created → active."""
        return await self._move(name, "started", {_CREATED}, _ACTIVE, None)

    async def pause(self, name: str) -> Circle:
        """active → paused: its conversations stop at their next turn boundary."""
        effect = self._conversations.pause_circle
        return await self._move(name, "paused", {_ACTIVE}, _PAUSED, effect)

    async def resume(self, name: str) -> Circle:
        """paused → active: its conversations go on."""
        effect = self._conversations.resume_circle
        return await self._move(name, "resumed", {_PAUSED}, _ACTIVE, effect)

    async def archive(self, name: str) -> Circle:
        """Any → archived, for good: its conversations end."""
        effect = self._conversations.end_circle
        return await self._move(name, "archived", {_CREATED, _ACTIVE, _PAUSED}, _ARCHIVED, effect)

    async def _move(
        self,
        name: str,
        action: str,
        allowed: set[CircleStatus],
        to: CircleStatus,
        effect: CircleEffect | None,
    ) -> Circle:
        async with self._db.transaction() as tx:
            circle = await self._locked(tx, name)
            if circle.status not in allowed:
                raise CircleWrongStatus(name, action, circle.status)
            await self._circles.update(tx, circle.id, {"status": to.value})
            if effect is not None:
                await effect(tx, circle.id)
            moved = await self._get(tx, name)
            await self._tell(
                tx, EventType.CIRCLE_STATUS, moved, previous_status=circle.status.value
            )
            changes = changed(_columns(circle), _columns(moved))
            await self._record(tx, action, circle.id, changes)
        return moved

    async def members(self, name: str, limit: int, offset: int) -> tuple[Sequence[Member], int]:
        """Return members in the order of their turns, and how many there are."""
        async with self._db.transaction() as tx:
            circle = await self._get(tx, name)
            members = await self._circles.members(tx, circle.id, limit, offset)
        return members, circle.agent_count

    async def add_member(self, name: str, command: AddMember) -> Member:
        """Let an agent join. Raises `NoSuchAgent`, `AlreadyMember`, `CircleFull`."""
        async with self._db.transaction() as tx:
            circle = await self._locked(tx, name)
            if circle.status is _ARCHIVED:
                raise CircleWrongStatus(name, "joined", circle.status)
            if not await self._circles.agent_exists(tx, command.agent_id):
                raise NoSuchAgent(command.agent_id)
            if not await self._circles.add_member(tx, circle.id, command.agent_id, command.role):
                raise AlreadyMember(name, command.agent_id)
            if circle.agent_count >= circle.config.max_agents:
                raise CircleFull(name, circle.status, circle.config.max_agents)
            member = await self._circles.member(tx, circle.id, command.agent_id)
            await self._tell(
                tx,
                EventType.CIRCLE_MEMBER_ADDED,
                circle,
                member=command.agent_id,
                agent_name=member.agent_name,
                role=member.role.value,
            )
            joined = changed({}, {"agent_id": member.agent_id, "role": member.role.value})
            await self._record(tx, "member_added", circle.id, joined)
        return member

    async def remove_member(self, name: str, agent_id: int) -> None:
        """Let an agent leave. Raises `NotMember`."""
        async with self._db.transaction() as tx:
            circle = await self._locked(tx, name)
            if circle.status is _ARCHIVED:
                raise CircleWrongStatus(name, "left", circle.status)
            if not await self._circles.remove_member(tx, circle.id, agent_id):
                raise NotMember(name, agent_id)
            await self._tell(tx, EventType.CIRCLE_MEMBER_REMOVED, circle, member=agent_id)
            left = changed({"agent_id": agent_id}, {})
            await self._record(tx, "member_removed", circle.id, left)

    async def _get(self, tx: Transaction, name: str) -> Circle:
        circle = await self._circles.get(tx, name)
        if circle is None:
            raise CircleNotFound(name)
        return circle

    async def _locked(self, tx: Transaction, name: str) -> Circle:
        if not await self._circles.lock(tx, name):
            raise CircleNotFound(name)
        return await self._get(tx, name)

    async def _record(
        self, tx: Transaction, what: str, circle_id: int, changes: Mapping[str, JsonValue]
    ) -> None:
        """What a circle's change does to its conversations is in the circle's own entry."""
        await self._audit.record(tx, f"circle_{what}", "circle", circle_id, changes=changes)

    async def _tell(
        self,
        tx: Transaction,
        kind: EventType,
        circle: Circle,
        *,
        member: int | None = None,
        **more: JsonValue,
    ) -> None:
        data: dict[str, JsonValue] = {
            "circle_id": circle.id,
            "name": circle.name,
            "display_name": circle.display_name,
            "status": circle.status.value,
            **more,
        }
        if member is not None:
            data["agent_id"] = member
        draft = EventDraft(
            stream=f"circle-{circle.id}",
            type=kind,
            data=data,
            circle_id=circle.id,
            agent_id=member,
        )
        await self._events.append(tx, [draft])


def _columns(circle: Circle) -> dict[str, JsonValue]:
    """Return what people set, as the audit log compares it."""
    return circle.model_dump(mode="json", exclude={"id", "agent_count", "created_at", "updated_at"})
