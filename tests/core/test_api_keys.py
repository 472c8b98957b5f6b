"""API keys: who may make them, what they open, and that they open nothing once revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from conclave.auditing import AuditLog
from conclave.crypto import Keyring, new_key
from conclave.db import Database
from conclave.errors import Forbidden, Invalid
from conclave.identity.api_key_commands import CreateApiKey
from conclave.identity.api_keys import ApiKeyHasher, ApiKeyService
from conclave.identity.errors import (
    AccountDisabled,
    ApiKeyNotFound,
    InvalidToken,
    TokenExpired,
    TokenRevoked,
)
from schema.domain.api_keys import ApiKeyStatus
from schema.domain.identity import (
    GATEWAY_PRINCIPAL,
    LOCAL_PRINCIPAL,
    TEMPORAL_PRINCIPAL,
    Principal,
    PrincipalKind,
    Role,
    Scope,
)

ALL = frozenset(Scope)


def build(database: Database, keys: Keyring | None) -> ApiKeyService:
    return ApiKeyService(database, AuditLog(), ApiKeyHasher(keys))


@pytest.fixture
def keys(clean_database: Database) -> ApiKeyService:
    return build(clean_database, Keyring.parse(new_key()))


async def user(database: Database, role: Role = Role.OPERATOR) -> Principal:
    async with database.transaction() as tx:
        made = await tx.conn.execute(
            text(
                "INSERT INTO users (email, full_name, role, password_hash)"
                " VALUES (gen_random_uuid() || '@x.test', 'x', :role, 'x') RETURNING id"
            ),
            {"role": role.value},
        )
        user_id = made.scalar_one()
    return Principal(kind=PrincipalKind.USER, id=user_id, user_id=user_id, role=role)


async def run(database: Database, statement: str) -> list[tuple[object, ...]]:
    async with database.transaction() as tx:
        result = await tx.conn.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def asking(*scopes: Scope, expires_at: datetime | None = None) -> CreateApiKey:
    return CreateApiKey(name="ci", scopes=frozenset(scopes or {Scope.READ}), expires_at=expires_at)


async def test_a_key_is_random_and_only_its_hash_and_start_are_stored(
    keys: ApiKeyService, database: Database
):
    stored, key = await keys.create(asking(), await user(database))

    assert key.startswith("conclave_")
    assert len(key) == len("conclave_") + 43
    assert stored.key_prefix == key[:12]
    (row,) = await run(database, "SELECT a::text FROM api_keys a")
    assert key not in str(row[0])
    assert key[12:] not in str(row[0])
    (entry,) = await run(database, "SELECT action, resource_id, changes::text FROM audit_entries")
    assert entry[:2] == ("api_key_created", str(stored.id))
    assert key not in str(entry[2])


@pytest.mark.parametrize(
    ("owner", "scopes", "role"),
    [
        (Role.ADMIN, {Scope.READ}, Role.VIEWER),
        (Role.ADMIN, {Scope.WRITE}, Role.OPERATOR),
        (Role.ADMIN, {Scope.READ, Scope.ADMIN}, Role.ADMIN),
        (Role.OPERATOR, {Scope.READ, Scope.WORKERS}, Role.VIEWER),
        (Role.VIEWER, {Scope.READ}, Role.VIEWER),
    ],
)
async def test_a_key_may_what_its_scopes_allow(
    keys: ApiKeyService, database: Database, owner: Role, scopes: set[Scope], role: Role
):
    person = await user(database, owner)
    stored, key = await keys.create(asking(*scopes), person)

    assert await keys.verify(key) == Principal(
        kind=PrincipalKind.API_KEY,
        id=stored.id,
        user_id=person.user_id,
        role=role,
        scopes=frozenset(scopes),
    )


async def test_a_key_for_workers_alone_is_a_worker_node(keys: ApiKeyService, database: Database):
    _, key = await keys.create(asking(Scope.WORKERS), await user(database))

    principal = await keys.verify(key)

    assert (principal.kind, principal.role) == (PrincipalKind.WORKER_NODE, None)
    assert principal.scopes == {Scope.WORKERS}


async def test_a_key_follows_its_owner_down(keys: ApiKeyService, database: Database):
    _, key = await keys.create(asking(*ALL), await user(database, Role.ADMIN))
    await run(database, "UPDATE users SET role = 'viewer'")

    principal = await keys.verify(key)

    assert principal.role is Role.VIEWER
    assert Scope.WORKERS not in (principal.scopes or ())


@pytest.mark.parametrize(
    ("role", "scope"),
    [
        (Role.VIEWER, Scope.WRITE),
        (Role.VIEWER, Scope.WORKERS),
        (Role.VIEWER, Scope.ADMIN),
        (Role.OPERATOR, Scope.ADMIN),
    ],
)
async def test_nobody_hands_out_more_than_they_have(
    keys: ApiKeyService, database: Database, role: Role, scope: Scope
):
    with pytest.raises(Forbidden, match=scope.value):
        await keys.create(asking(Scope.READ, scope), await user(database, role))
    assert not await run(database, "SELECT 1 FROM api_keys")


async def test_only_people_make_keys(keys: ApiKeyService, database: Database):
    _, key = await keys.create(asking(Scope.ADMIN), await user(database, Role.ADMIN))
    _, worker = await keys.create(asking(Scope.WORKERS), await user(database, Role.ADMIN))

    for one in (await keys.verify(key), await keys.verify(worker)):
        with pytest.raises(Forbidden, match="log in"):
            await keys.create(asking(), one)
    for one in (LOCAL_PRINCIPAL, GATEWAY_PRINCIPAL):
        with pytest.raises(Forbidden, match="belongs to a user"):
            await keys.create(asking(), one)


async def test_an_end_in_the_past_is_refused(keys: ApiKeyService, database: Database):
    with pytest.raises(Invalid) as caught:
        await keys.create(
            asking(expires_at=datetime.now(UTC) - timedelta(seconds=1)), await user(database)
        )
    assert caught.value.field == "expires_at"


async def test_an_expired_key_opens_nothing(keys: ApiKeyService, database: Database):
    person = await user(database)
    _, key = await keys.create(asking(expires_at=datetime.now(UTC) + timedelta(hours=1)), person)
    await keys.verify(key)
    await run(database, "UPDATE api_keys SET expires_at = clock_timestamp() - interval '1 s'")

    with pytest.raises(TokenExpired):
        await keys.verify(key)
    (listed,), _ = await keys.list(person, of_all=False, limit=9, offset=0)
    assert listed.status is ApiKeyStatus.EXPIRED


async def test_a_revoked_key_is_refused_at_once_and_no_longer_recognised(
    keys: ApiKeyService, database: Database
):
    person = await user(database)
    stored, key = await keys.create(asking(), person)
    assert keys.recognise(key) is None
    await keys.verify(key)
    assert keys.recognise(key) == f"api_key:{stored.id}"

    await keys.revoke(stored.id, person)

    with pytest.raises(TokenRevoked):
        await keys.verify(key)
    assert keys.recognise(key) is None
    (listed,), total = await keys.list(person, of_all=False, limit=9, offset=0)
    assert (listed.status, total) == (ApiKeyStatus.REVOKED, 1)
    with pytest.raises(ApiKeyNotFound):
        await keys.revoke(stored.id, person)
    actions = await run(database, "SELECT action FROM audit_entries ORDER BY id")
    assert actions == [("api_key_created",), ("api_key_revoked",)]


async def test_a_disabled_or_deleted_owner_closes_the_key(keys: ApiKeyService, database: Database):
    _, key = await keys.create(asking(), await user(database))
    await run(database, "UPDATE users SET is_active = false")
    with pytest.raises(AccountDisabled):
        await keys.verify(key)
    await run(database, "UPDATE users SET is_active = true, deleted_at = clock_timestamp()")
    with pytest.raises(InvalidToken):
        await keys.verify(key)


@pytest.mark.parametrize(
    "key", ["", "conclave_", "conclave_" + "a" * 43, "x" * 52, "conclave_" + "ü" * 43]
)
async def test_a_made_up_key_is_refused(keys: ApiKeyService, key: str):
    with pytest.raises(InvalidToken):
        await keys.verify(key)
    assert keys.recognise(key) is None


async def test_verifying_is_one_statement_and_notes_the_use_once_a_minute(
    keys: ApiKeyService, database: Database
):
    _, key = await keys.create(asking(), await user(database))
    seen: list[str] = []

    def note(*given: object) -> None:
        seen.append(str(given[2]))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        await keys.verify(key)
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert len(seen) == 1

    used = "SELECT last_used_at, xmin::text FROM api_keys"
    first = await run(database, used)
    assert first[0][0] is not None
    await keys.verify(key)
    assert await run(database, used) == first
    await run(database, "UPDATE api_keys SET last_used_at = last_used_at - interval '61 s'")
    await keys.verify(key)
    assert await run(database, used) > first


async def test_keys_outlive_a_rotation_of_the_servers_keys(clean_database: Database):
    old, new = new_key(), new_key()
    person = await user(clean_database)
    _, used = await build(clean_database, Keyring.parse(old)).create(asking(), person)
    _, idle = await build(clean_database, Keyring.parse(old)).create(asking(), person)

    await build(clean_database, Keyring.parse(f"{new},{old}")).verify(used)

    after = build(clean_database, Keyring.parse(new))
    await after.verify(used)
    with pytest.raises(InvalidToken):
        await after.verify(idle)


async def test_keys_made_without_a_server_key_outlive_its_arrival(clean_database: Database):
    _, key = await build(clean_database, None).create(asking(), await user(clean_database))
    server = new_key()
    await build(clean_database, None).verify(key)

    await build(clean_database, Keyring.parse(server)).verify(key)

    with pytest.raises(InvalidToken):
        await build(clean_database, None).verify(key)


async def test_everybody_sees_and_revokes_their_own_and_admins_all(
    keys: ApiKeyService, database: Database
):
    one, other = await user(database), await user(database)
    admin = await user(database, Role.ADMIN)
    mine, _ = await keys.create(asking(), one)
    theirs, _ = await keys.create(asking(), other)

    assert [key.id for key in (await keys.list(one, of_all=False, limit=9, offset=0))[0]] == [
        mine.id
    ]
    with pytest.raises(Forbidden):
        await keys.list(one, of_all=True, limit=9, offset=0)
    with pytest.raises(ApiKeyNotFound):
        await keys.revoke(theirs.id, one)
    listed, total = await keys.list(admin, of_all=True, limit=1, offset=0)
    assert ([key.id for key in listed], total) == ([theirs.id], 2)
    await keys.revoke(theirs.id, admin)
    assert await keys.list(LOCAL_PRINCIPAL, of_all=False, limit=9, offset=0) == ((), 0)


async def test_whoever_has_no_account_and_is_no_admin_revokes_nothing(
    keys: ApiKeyService, database: Database
):
    made, key = await keys.create(asking(), await user(database))
    with pytest.raises(ApiKeyNotFound):
        await keys.revoke(made.id, TEMPORAL_PRINCIPAL)
    assert (await keys.verify(key)).id == made.id
