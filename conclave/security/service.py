"""The security settings in force, stored ones over the defaults, and the IP rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import JsonValue

from conclave.addresses import would_refuse
from conclave.auditing import AuditLog, changed
from conclave.believed import Believed
from conclave.caller import current_caller
from conclave.db import Database, Transaction
from conclave.errors import Invalid, Missing
from conclave.merging import merge
from conclave.networks import parse_network
from conclave.security.commands import NewIpRule
from conclave.security.errors import WouldShutOutCaller
from conclave.security.repository import SecurityRepository
from conclave.security.shapes import SecurityOverview
from conclave.settings import AuthMode
from schema.domain.approvals import Approvers
from schema.domain.base import Shape
from schema.domain.security import IpRule, PasswordPolicy, SecurityConfig

Sections = Mapping[str, Mapping[str, JsonValue]]
"""Fields of SecurityConfig by section, only those that are meant."""
_NO_RULES: Sequence[IpRule] = ()


class SecurityService:
    """A `SecurityPolicy`: each part costs a query a second, and fails closed."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        auth_mode: AuthMode,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._audit = audit
        self._auth_mode = auth_mode
        self._repository = SecurityRepository()
        self._config = Believed(self._read_config, SecurityConfig(), clock=clock)
        self._rules = Believed(self._read_rules, _NO_RULES, clock=clock)

    async def current(self) -> SecurityConfig:
        """Return what is in force, read from the record at most a second ago.

        Raises `Unavailable` where it cannot be read.
        """
        return await self._config.get()

    def last_known(self) -> SecurityConfig:
        """Return it without any query."""
        return self._config.last

    async def ip_rules(self) -> Sequence[IpRule]:
        """Return the rules in order, read at most a second ago. Raises `Unavailable`."""
        return await self._rules.get()

    async def overview(self) -> SecurityOverview:
        """Return what is in force just now, for an administrator to see."""
        async with self._db.transaction() as tx:
            config = _configured(await self._repository.document(tx))
            users, with_mfa = await self._repository.count_users(tx)
        if config.registration.enabled is None:
            # The first registration is always open: a fresh deployment can be entered.
            is_open = self._auth_mode is AuthMode.LOCAL or users == 0
            registration = config.registration.model_copy(update={"enabled": is_open})
            config = config.model_copy(update={"registration": registration})
        return SecurityOverview(config=config, users=users, users_with_mfa=with_mfa)

    async def update(self, changes: Sections) -> SecurityOverview:
        """Merge what was given over what is stored.

        Raises `Invalid` naming the field, such as `session.access_token_minutes`, `Missing` for
        users that are not there.
        """
        async with self._db.transaction() as tx:
            before, after = await self.store(tx, changes)
            if "escalate_to" in changes.get("approvals", {}):
                await self._require_users(tx, after.approvals.escalate_to)
            differences = changed(_flat(before), _flat(after))
            if differences:
                await self._audit.record(tx, "security_updated", "security", changes=differences)
        return await self.overview()

    async def _require_users(self, tx: Transaction, group: Approvers) -> None:
        """Raise `Missing` where a group of people names somebody who is not there."""
        named = group if isinstance(group, list) else []
        for user_id in await self._repository.unknown_users(tx, named):
            raise Missing("approvals.escalate_to", f"User {user_id} not found")

    async def update_password_policy(self, changes: Mapping[str, JsonValue]) -> PasswordPolicy:
        """Merge into the policy alone. Raises `Invalid` naming its field."""
        try:
            overview = await self.update({"password_policy": changes})
        except Invalid as error:
            error.field = error.field.removeprefix("password_policy.")
            raise
        return overview.config.password_policy

    async def document(self, tx: Transaction) -> dict[str, dict[str, JsonValue]]:
        """Return what was set, by section and field: everything else is a default."""
        return await self._repository.document(tx)

    async def store(
        self, tx: Transaction, changes: Sections
    ) -> tuple[SecurityConfig, SecurityConfig]:
        """Store a change in a caller's transaction; return what held before and what holds now.

        It holds in this process once committed. Raises `Invalid` naming the field.
        """
        await self._repository.lock(tx)
        document = await self._repository.document(tx)
        before = after = _configured(document)
        for name, fields in changes.items():
            old: Shape = getattr(after, name)
            section = merge(type(old), old.model_dump(), fields, name)
            after = after.model_copy(update={name: section})
            kept = {**document.get(name, {}), **fields}
            told = section.model_dump(mode="json")
            document[name] = {field: told[field] for field in kept if field in told}
        after = _stamped(before, after, document)
        await self._repository.store(tx, document)
        tx.after_commit.append(lambda: self._config.replace(after))
        return before, after

    async def list_ip_rules(self) -> Sequence[IpRule]:
        """Return the rules as they are stored just now."""
        async with self._db.transaction() as tx:
            return await self._repository.ip_rules(tx)

    async def replace_ip_rules(
        self, rules: Sequence[NewIpRule], *, force: bool
    ) -> Sequence[IpRule]:
        """Put these rules in the place of all; return them as stored, in their order.

        Raises `Invalid` for what is no network, `WouldShutOutCaller` unless `force`.
        """
        plain = _plain(rules)
        caller = current_caller.get()
        if not force and caller.ip_address and would_refuse(plain, caller.ip_address):
            raise WouldShutOutCaller(caller.ip_address)
        async with self._db.transaction() as tx:
            await self._repository.lock(tx)
            before = await self._repository.ip_rules(tx)
            rows = _rows(plain, before, caller.principal.user_id)
            await self._repository.replace_ip_rules(tx, rows)
            after = await self._repository.ip_rules(tx)
            await self._audit.record(
                tx, "ip_rules_updated", "ip_rules", changes=_differences(before, after)
            )
            tx.after_commit.append(lambda: self._rules.replace(after))
        return after

    async def _read_config(self) -> SecurityConfig:
        async with self._db.aside() as tx:
            return _configured(await self._repository.document(tx))

    async def _read_rules(self) -> Sequence[IpRule]:
        async with self._db.aside() as tx:
            return await self._repository.ip_rules(tx)


def _configured(document: Sections) -> SecurityConfig:
    return SecurityConfig.model_validate(document)


def _stamped(
    before: SecurityConfig, after: SecurityConfig, document: dict[str, dict[str, JsonValue]]
) -> SecurityConfig:
    """Note when a second factor became required: nobody else says so."""
    if after.mfa.required == before.mfa.required:
        since = before.mfa.required_since
    else:
        since = datetime.now(UTC) if after.mfa.required else None
    mfa = after.mfa.model_copy(update={"required_since": since})
    if "mfa" in document:
        document["mfa"]["required_since"] = None if since is None else since.isoformat()
    return after.model_copy(update={"mfa": mfa})


def _flat(config: SecurityConfig) -> dict[str, JsonValue]:
    sections = config.model_dump(mode="json")
    return {
        f"{name}.{field}": value
        for name, section in sections.items()
        for field, value in section.items()
    }


def _plain(rules: Sequence[NewIpRule]) -> list[NewIpRule]:
    """Return the rules with their networks in plain form, each once."""
    found: dict[tuple[str, str], NewIpRule] = {}
    for place, rule in enumerate(rules):
        try:
            cidr = str(parse_network(rule.cidr))
        except ValueError:
            raise Invalid(f"rules.{place}.cidr", "Must be an address or a network.") from None
        found.setdefault((cidr, rule.action.value), rule.model_copy(update={"cidr": cidr}))
    return list(found.values())


def _rows(
    rules: Sequence[NewIpRule], before: Sequence[IpRule], user_id: int | None
) -> list[dict[str, object]]:
    """Return the rows to store: who made a rule that stays, and when, stays too."""
    known = {(rule.cidr, rule.action): rule for rule in before}
    now = datetime.now(UTC)
    rows: list[dict[str, object]] = []
    for rule in rules:
        old = known.get((rule.cidr, rule.action))
        rows.append(
            {
                "cidr": rule.cidr,
                "action": rule.action.value,
                "description": rule.description,
                "created_by": user_id if old is None else old.created_by,
                "created_at": now if old is None else old.created_at,
            }
        )
    return rows


def _differences(before: Sequence[IpRule], after: Sequence[IpRule]) -> dict[str, JsonValue]:
    old = {f"{rule.action.value} {rule.cidr}" for rule in before}
    new = {f"{rule.action.value} {rule.cidr}" for rule in after}
    return {"added": [*sorted(new - old)], "removed": [*sorted(old - new)]}
