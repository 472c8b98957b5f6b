"""The security settings and IP rules on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import JsonValue
from sqlalchemy import event, text

from conclave.addresses import would_refuse
from conclave.auditing import AuditLog
from conclave.caller import Caller, current_caller
from conclave.db import Database
from conclave.errors import Invalid, Unavailable
from conclave.networks import parse_network
from conclave.security.commands import NewIpRule
from conclave.security.errors import WouldShutOutCaller
from conclave.security.service import SecurityService
from conclave.settings import AuthMode
from schema.domain.identity import Principal, PrincipalKind, Role
from schema.domain.security import IpAction, SecurityConfig

ADMIN = Principal(kind=PrincipalKind.USER, id=7, user_id=7, role=Role.ADMIN)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clean_database: Database, clock: Clock) -> SecurityService:
    return build(clean_database, clock)


@pytest.fixture
async def lost(clock: Clock) -> AsyncIterator[SecurityService]:
    """A service whose database is away."""
    database = Database.connect("postgresql+psycopg://x@127.0.0.1:1/x", pool_size=1)
    yield build(database, clock)
    await database.close()


def build(
    database: Database, clock: Clock, auth_mode: AuthMode = AuthMode.LOCAL
) -> SecurityService:
    return SecurityService(database, AuditLog(), auth_mode, clock=clock)


@contextmanager
def calling_from(address: str | None) -> Generator[None]:
    token = current_caller.set(Caller(principal=ADMIN, ip_address=address))
    yield
    current_caller.reset(token)


async def audited(database: Database, action: str) -> list[dict[str, JsonValue]]:
    async with database.transaction() as tx:
        rows = await tx.conn.execute(
            text("SELECT changes FROM audit_entries WHERE action = :action ORDER BY id"),
            {"action": action},
        )
        return list(rows.scalars())


async def test_defaults_hold_until_something_is_stored(service: SecurityService):
    overview = await service.overview()

    assert await service.current() == SecurityConfig()
    assert overview.config.session.access_token_minutes == 30
    assert (overview.users, overview.users_with_mfa) == (0, 0)


async def test_changes_are_merged_deeply_and_hold_in_this_process_at_once(
    service: SecurityService, clean_database: Database, clock: Clock
):
    other = build(clean_database, clock)
    for one in (service, other):
        await one.current()
    await service.update({"session": {"access_token_minutes": 60}})
    await service.update({"session": {"idle_timeout_minutes": 5}, "lockout": {"max_attempts": 3}})

    for config in (await service.current(), service.last_known()):
        assert config.session.access_token_minutes == 60
        assert config.session.idle_timeout_minutes == 5
        assert config.session.refresh_token_days == 7
        assert config.lockout.max_attempts == 3
    assert (await other.current()).session.access_token_minutes == 30
    clock.now += 1
    assert await other.current() == await service.current()


async def test_settings_and_rules_cost_one_query_a_second_each(
    service: SecurityService, clean_database: Database, clock: Clock
):
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    engine = clean_database.aside_engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        await asyncio.gather(*(service.current() for _ in range(20)))
        await asyncio.gather(*(service.ip_rules() for _ in range(20)))
        clock.now += 0.9
        await service.current()
        service.last_known()
    finally:
        event.remove(engine, "before_cursor_execute", note)

    assert len(statements) == 2


async def test_without_the_database_nothing_is_let_through_on_old_settings(
    lost: SecurityService,
):
    for ask in (lost.current, lost.ip_rules, lost.overview):
        with pytest.raises(Unavailable):
            await ask()
    assert lost.last_known() == SecurityConfig()


async def test_a_value_out_of_range_names_its_field_and_stores_nothing(
    service: SecurityService, clean_database: Database
):
    for section, field, value in (
        ("session", "access_token_minutes", 4),
        ("session", "refresh_token_days", 91),
        ("lockout", "max_attempts", 0),
        ("rate_limit", "login_per_minute", 0),
        ("password_policy", "min_length", 7),
        ("registration", "default_role", "owner"),
    ):
        with pytest.raises(Invalid) as caught:
            await service.update({"lockout": {"window_minutes": 9}, section: {field: value}})
        assert caught.value.field == f"{section}.{field}"

    assert (await service.overview()).config.lockout.window_minutes == 15
    assert await audited(clean_database, "security_updated") == []


async def test_the_password_policy_names_its_own_fields(service: SecurityService):
    with pytest.raises(Invalid) as caught:
        await service.update_password_policy({"history_count": 25})
    policy = await service.update_password_policy({"min_length": 20, "require_special": False})

    assert caught.value.field == "history_count"
    assert (policy.min_length, policy.require_special, policy.history_count) == (20, False, 5)
    assert (await service.current()).password_policy == policy


async def test_when_a_second_factor_became_required_is_noted_and_never_taken(
    service: SecurityService,
):
    long_ago = "2001-01-01T00:00:00Z"
    started = datetime.now(UTC)
    await service.update({"mfa": {"required": True, "required_since": long_ago}})
    since = (await service.current()).mfa.required_since
    assert since is not None
    assert since >= started
    await service.update({"mfa": {"grace_period_hours": 1, "required_since": long_ago}})
    await service.update({"mfa": {"required": True}})
    assert (await service.current()).mfa.required_since == since
    assert (await service.overview()).config.mfa.required_since == since
    await service.update({"mfa": {"required": False}})
    assert (await service.current()).mfa.required_since is None


async def test_what_changed_is_audited_with_before_and_after(
    service: SecurityService, clean_database: Database
):
    await service.update({"session": {"access_token_minutes": 45}, "lockout": {"max_attempts": 5}})
    await service.update({"session": {"access_token_minutes": 45}})

    assert await audited(clean_database, "security_updated") == [
        {"session.access_token_minutes": {"before": 30, "after": 45}}
    ]


async def test_two_changes_at_once_both_stay(service: SecurityService, clean_database: Database):
    other = build(clean_database, Clock())
    await asyncio.gather(
        *(service.update({"lockout": {"max_attempts": n}}) for n in range(1, 6)),
        *(other.update({"session": {"refresh_token_days": n}}) for n in range(1, 6)),
    )

    config = (await service.overview()).config
    assert config.lockout.max_attempts < 6
    assert config.session.refresh_token_days < 6
    assert len(await audited(clean_database, "security_updated")) >= 9


async def test_registration_is_open_by_mode_and_for_the_first_user(
    clean_database: Database, clock: Clock
):
    local = build(clean_database, clock)
    required = build(clean_database, clock, AuthMode.REQUIRED)

    async def enabled(service: SecurityService) -> bool | None:
        return (await service.overview()).config.registration.enabled

    assert (await enabled(local), await enabled(required)) == (True, True)
    async with clean_database.transaction() as tx:
        await tx.conn.execute(
            text(
                "INSERT INTO users (email, full_name, role, password_hash, mfa_secret)"
                " VALUES ('a@b', 'a', 'admin', 'x', 'sealed'), ('b@b', 'b', 'viewer', 'x', NULL)"
            )
        )
    assert (await enabled(local), await enabled(required)) == (True, False)
    overview = await required.update({"registration": {"enabled": True}})
    assert overview.config.registration.enabled
    assert (overview.users, overview.users_with_mfa) == (2, 1)
    assert (await required.current()).registration.enabled is True


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        (" 2001:db8::1 ", "2001:db8::1/128"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_networks_are_stored_in_their_plain_form(given: str, plain: str):
    assert str(parse_network(given)) == plain


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.0/33", "fe80::1%eth0", "example.com", "1.2.3.4/", "010.1.1.1"]
)
def test_what_is_no_network_is_refused(text: str):
    with pytest.raises(ValueError):
        parse_network(text)


def rules(*texts: str) -> list[NewIpRule]:
    return [
        NewIpRule(cidr=str(parse_network(cidr)), action=IpAction(action))
        for action, cidr in (text.split() for text in texts)
    ]


@pytest.mark.parametrize(
    ("given", "address", "refused"),
    [
        ([], "9.9.9.9", False),
        (["deny 9.9.9.0/24"], "9.9.9.9", True),
        (["deny 9.9.9.0/24"], "9.9.8.9", False),
        (["allow 9.9.9.0/24"], "9.9.9.9", False),
        (["allow 9.9.9.0/24"], "9.9.8.9", True),
        (["allow 9.9.9.0/24"], "2001:db8::1", True),
        (["allow 9.9.9.0/24", "deny 9.9.9.9"], "9.9.9.9", True),
        (["deny 9.9.9.9", "allow 0.0.0.0/0"], "9.9.9.9", True),
        (["deny 9.9.9.9", "allow 0.0.0.0/0"], "::ffff:9.9.9.9", True),
        (["deny 9.9.9.9", "allow 0.0.0.0/0"], "::ffff:9.9.9.8", False),
        (["allow ::ffff:9.9.9.9"], "9.9.9.9", False),
        (["deny 0.0.0.0/0", "deny ::/0"], "127.0.0.1", False),
        (["deny 0.0.0.0/0", "deny ::/0"], "::1", False),
        (["deny 0.0.0.0/0", "deny ::/0"], "::ffff:127.0.0.5", False),
        (["deny fe80::/10"], "fe80::1%eth0", True),
        (["allow 9.9.9.9"], "unknown", True),
        ([], "unknown", False),
    ],
)
def test_a_deny_refuses_and_an_allow_list_shuts_out_the_rest(
    given: list[str], address: str, refused: bool
):
    assert would_refuse(rules(*given), address) is refused


async def test_rules_are_replaced_as_a_whole_and_keep_who_made_them(
    service: SecurityService, clean_database: Database
):
    with calling_from("9.9.9.9"):
        first = await service.replace_ip_rules(
            [NewIpRule(cidr="10.1.2.3/8", action=IpAction.DENY, description="inside")], force=False
        )
    second = await service.replace_ip_rules(
        rules("allow 1.1.1.1", "deny 10.0.0.0/8", "allow 1.1.1.1/32"), force=False
    )

    assert [(one.cidr, one.description, one.created_by) for one in first] == [
        ("10.0.0.0/8", "inside", 7)
    ]
    assert [(one.action, one.cidr) for one in second] == [
        ("allow", "1.1.1.1/32"),
        ("deny", "10.0.0.0/8"),
    ]
    assert [one.created_by for one in second] == [None, 7]
    assert second[1].created_at == first[0].created_at
    assert list(await service.ip_rules()) == list(second) == list(await service.list_ip_rules())
    assert await audited(clean_database, "ip_rules_updated") == [
        {"added": ["deny 10.0.0.0/8"], "removed": []},
        {"added": ["allow 1.1.1.1/32"], "removed": []},
    ]
    assert second[0].created_at - first[0].created_at < timedelta(minutes=1)


async def test_a_bad_network_replaces_nothing(service: SecurityService):
    kept = await service.replace_ip_rules(rules("deny 10.0.0.0/8"), force=False)

    with pytest.raises(Invalid) as caught:
        await service.replace_ip_rules(
            [*rules("deny 1.1.1.1"), NewIpRule(cidr="nonsense", action=IpAction.DENY)], force=False
        )

    assert caught.value.field == "rules.1.cidr"
    assert list(await service.list_ip_rules()) == list(kept)


async def test_rules_that_shut_out_their_author_need_force(
    service: SecurityService, clean_database: Database
):
    with calling_from("9.9.9.9"):
        for harmful in (rules("deny 9.9.9.9"), rules("allow 1.1.1.1")):
            with pytest.raises(WouldShutOutCaller, match=r"9\.9\.9\.9"):
                await service.replace_ip_rules(harmful, force=False)
        assert await service.list_ip_rules() == []
        assert await audited(clean_database, "ip_rules_updated") == []
        await service.replace_ip_rules(rules("allow 1.1.1.1"), force=True)
        assert len(await service.ip_rules()) == 1
    with calling_from("127.0.0.1"):
        assert len(await service.replace_ip_rules(rules("deny 0.0.0.0/0"), force=False)) == 1
