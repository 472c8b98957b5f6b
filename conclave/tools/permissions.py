"""The rules for tools in chats: stored, and believed for a second once read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from conclave.auditing import AuditLog, changed
from conclave.db import Database
from conclave.tools.errors import InvalidPermissions
from conclave.tools.repository import ToolRepository
from schema.domain.permissions import PermissionLevel, PermissionMode, Permissions

FRESH_SECONDS = 1.0


class PermissionService:
    """Reads and changes the global rules."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        names: Callable[[], Sequence[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._audit = audit
        self._names = names
        self._clock = clock
        self._repository = ToolRepository()
        self._known = Permissions()
        self._read_at = float("-inf")

    async def current(self) -> Permissions:
        """Return the rules in force, read at most a second ago."""
        if self._clock() - self._read_at >= FRESH_SECONDS:
            async with self._db.aside() as tx:
                self._believe(await self._repository.permissions(tx))
        return self._known

    def tool_names(self) -> list[str]:
        """Return every tool there is, sorted."""
        return sorted(self._names())

    async def update(
        self, mode: str | None, tool_overrides: Mapping[str, str | None] | None
    ) -> Permissions:
        """Set what was given: `tool_overrides` takes the place of all there are, and one of null is
        left out. Raises `InvalidPermissions`."""
        async with self._db.transaction() as tx:
            before = await self._repository.permissions(tx, lock=True)
            after = Permissions(
                mode=before.mode if mode is None else _mode(mode),
                tool_overrides=before.tool_overrides
                if tool_overrides is None
                else self._levels(tool_overrides),
            )
            await self._repository.store_permissions(tx, after)
            await self._audit.record(
                tx,
                "permissions_updated",
                "permissions",
                changes=changed(_flat(before), _flat(after)),
            )
        self._believe(after)
        return after

    def _believe(self, permissions: Permissions) -> None:
        self._known = permissions
        self._read_at = self._clock()

    def _levels(self, given: Mapping[str, str | None]) -> dict[str, PermissionLevel]:
        overrides: dict[str, PermissionLevel] = {}
        for name, level in given.items():
            if name not in self.tool_names():
                raise InvalidPermissions(
                    f"There is no tool {name[:64]!r}. Tools: {', '.join(self.tool_names())}"
                )
            if level is not None:
                overrides[name] = _level(level)
        return overrides


def _mode(text: str) -> PermissionMode:
    try:
        return PermissionMode(text)
    except ValueError:
        raise InvalidPermissions(
            f"There is no mode {text[:64]!r}. Modes: {', '.join(PermissionMode)}"
        ) from None


def _level(text: str) -> PermissionLevel:
    try:
        return PermissionLevel(text)
    except ValueError:
        raise InvalidPermissions(
            f"There is no level {text[:64]!r}. Levels: {', '.join(PermissionLevel)}"
        ) from None


def _flat(permissions: Permissions) -> dict[str, JsonValue]:
    overrides = {name: level.value for name, level in permissions.tool_overrides.items()}
    return {"mode": permissions.mode.value, "tool_overrides": dict[str, JsonValue](overrides)}
