"""All SQL on users and their passwords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from conclave.db import Transaction
from conclave.identity.errors import UserNotFound
from conclave.identity.shapes import Account
from schema.domain.identity import Role
from schema.domain.users import User
from schema.tables.identity import PasswordHistoryRow, UserRow

KEPT_PASSWORDS = 24
"""The most a policy may look back."""
_LIVING = UserRow.deleted_at.is_(None)
_COLUMNS = (
    UserRow.id,
    UserRow.email,
    UserRow.full_name,
    UserRow.role,
    UserRow.is_active,
    UserRow.mfa_secret.is_not(None).label("mfa_enabled"),
    UserRow.last_login_at,
    UserRow.password_changed_at,
    UserRow.created_at,
    UserRow.updated_at,
)
_PROOFS = (
    UserRow.password_hash,
    UserRow.mfa_secret,
    UserRow.mfa_pending_secret,
    UserRow.mfa_last_step,
)
# Held by whoever makes the first account or takes an administrator's rights away.
_LOCK_ADMINISTRATORS = text("SELECT pg_advisory_xact_lock(hashtext('conclave administrators'))")


class UserRepository:
    """Reads see living users only. Emails are given in their normal form."""

    async def lock_administrators(self, tx: Transaction) -> None:
        """Wait for the one lock on who administers; held until the transaction ends."""
        await tx.conn.execute(_LOCK_ADMINISTRATORS)

    async def any(self, tx: Transaction) -> bool:
        """Whether there is an account at all."""
        return bool((await tx.conn.execute(select(exists().where(_LIVING)))).scalar_one())

    async def other_administrators(self, tx: Transaction, user_id: int) -> bool:
        """Whether another active administrator exists."""
        others = exists().where(
            _LIVING, UserRow.is_active, UserRow.role == Role.ADMIN.value, UserRow.id != user_id
        )
        return bool((await tx.conn.execute(select(others))).scalar_one())

    async def by_id(self, tx: Transaction, user_id: int, *, lock: bool = False) -> Account | None:
        """Return one account, locked against other changes where asked."""
        return await self._one(tx, UserRow.id == user_id, lock=lock)

    async def locked(self, tx: Transaction, user_id: int) -> Account:
        """Return one account, locked against other changes. Raises `UserNotFound`."""
        account = await self.by_id(tx, user_id, lock=True)
        if account is None:
            raise UserNotFound(user_id)
        return account

    async def by_email(self, tx: Transaction, email: str) -> Account | None:
        """Return one account."""
        return await self._one(tx, UserRow.email == email, lock=False)

    async def list(
        self, tx: Transaction, role: Role | None, limit: int, offset: int
    ) -> tuple[Sequence[User], int]:
        """Return a piece of the list, newest first, and the length of the whole."""
        wanted: list[ColumnElement[bool]] = [_LIVING]
        if role is not None:
            wanted.append(UserRow.role == role.value)
        total = await tx.conn.execute(select(func.count()).select_from(UserRow).where(*wanted))
        rows = await tx.conn.execute(
            select(*_COLUMNS)
            .where(*wanted)
            .order_by(UserRow.created_at.desc(), UserRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [User.model_validate(row) for row in rows.mappings()], total.scalar_one()

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> int | None:
        """Store an account and return its id; None when its email is taken."""
        statement = insert(UserRow).values(**values)
        statement = statement.on_conflict_do_nothing(
            index_elements=[UserRow.email], index_where=_LIVING
        )
        result = await tx.conn.execute(statement.returning(UserRow.id))
        return result.scalar_one_or_none()

    async def change_email(self, tx: Transaction, user_id: int, email: str) -> bool:
        """Give an account another address; False when it is taken."""
        try:
            async with tx.conn.begin_nested():
                await self.update(tx, user_id, {"email": email})
        except IntegrityError:
            return False
        return True

    async def update(self, tx: Transaction, user_id: int, values: Mapping[str, object]) -> None:
        """Change columns of one account."""
        await tx.conn.execute(update(UserRow).where(UserRow.id == user_id).values(**values))

    async def earlier_passwords(self, tx: Transaction, user_id: int) -> Sequence[str]:
        """Return the hashes of passwords that were replaced, the last one first."""
        result = await tx.conn.execute(
            select(PasswordHistoryRow.password_hash)
            .where(PasswordHistoryRow.user_id == user_id)
            .order_by(PasswordHistoryRow.id.desc())
            .limit(KEPT_PASSWORDS)
        )
        return result.scalars().all()

    async def replace_password(
        self, tx: Transaction, account: Account, hashed: str, now: datetime
    ) -> None:
        """Store a new password and remember the old one."""
        await self.update(
            tx,
            account.id,
            {"password_hash": hashed, "password_changed_at": now, "updated_at": now},
        )
        await tx.conn.execute(
            insert(PasswordHistoryRow).values(
                user_id=account.id, password_hash=account.password_hash, created_at=now
            )
        )
        kept = (
            select(PasswordHistoryRow.id)
            .where(PasswordHistoryRow.user_id == account.id)
            .order_by(PasswordHistoryRow.id.desc())
            .limit(KEPT_PASSWORDS)
        )
        await tx.conn.execute(
            delete(PasswordHistoryRow).where(
                PasswordHistoryRow.user_id == account.id, PasswordHistoryRow.id.not_in(kept)
            )
        )

    async def _one(
        self, tx: Transaction, wanted: ColumnElement[bool], *, lock: bool
    ) -> Account | None:
        statement = select(*_COLUMNS, *_PROOFS).where(wanted, _LIVING)
        if lock:
            statement = statement.with_for_update()
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else Account.model_validate(row)
