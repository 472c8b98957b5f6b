"""All SQL on profiles, and on the setting that names the default one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from conclave.profiles.shapes import StoredProfile
from conclave.resealing import SealedColumn
from schema.tables.conversations import ConversationRow
from schema.tables.profiles import ProfileRow
from schema.tables.settings import SettingRow

_DEFAULT_KEY = "profiles.default"
_COLUMNS = (
    ProfileRow.name,
    ProfileRow.provider,
    ProfileRow.model,
    ProfileRow.base_url,
    ProfileRow.is_url_trusted,
    ProfileRow.api_key,
    ProfileRow.secret_name,
    ProfileRow.context_window,
    ProfileRow.max_output_tokens,
    ProfileRow.created_at,
    ProfileRow.updated_at,
)


def key_context(name: int | str) -> str:
    """Return what a sealed API key is bound to."""
    return f"profile:{name}"


SEALED_PLACES = (SealedColumn(ProfileRow, ProfileRow.name, ProfileRow.api_key, key_context),)


class ProfileRepository:
    """Reads and writes profiles."""

    async def all(self, tx: Transaction) -> dict[str, StoredProfile]:
        """Return every profile by name, in the order of the names."""
        rows = await tx.conn.execute(select(*_COLUMNS).order_by(ProfileRow.name))
        found = (StoredProfile.model_validate(row) for row in rows.mappings())
        return {profile.name: profile for profile in found}

    async def get(self, tx: Transaction, name: str, *, lock: bool = False) -> StoredProfile | None:
        """Return one; `lock` keeps chats from choosing it until the transaction ends."""
        statement = select(*_COLUMNS).where(ProfileRow.name == name)
        if lock:
            statement = statement.with_for_update()
        row = (await tx.conn.execute(statement)).mappings().one_or_none()
        return None if row is None else StoredProfile.model_validate(row)

    async def insert(self, tx: Transaction, values: Mapping[str, object]) -> StoredProfile | None:
        """Store a profile; None where the name is taken."""
        statement = insert(ProfileRow).values(**values).on_conflict_do_nothing()
        row = (await tx.conn.execute(statement.returning(*_COLUMNS))).mappings().one_or_none()
        return None if row is None else StoredProfile.model_validate(row)

    async def delete(self, tx: Transaction, name: str) -> None:
        """Remove one."""
        await tx.conn.execute(delete(ProfileRow).where(ProfileRow.name == name))

    async def chats_using(self, tx: Transaction, name: str) -> int:
        """Count the chats that chose it."""
        found = await tx.conn.scalar(
            select(func.count()).where(
                ConversationRow.profile == name, ConversationRow.deleted_at.is_(None)
            )
        )
        return found or 0

    async def using_secret(self, tx: Transaction, secret_name: str) -> Sequence[str]:
        """Return the profiles whose key is this secret."""
        rows = await tx.conn.scalars(
            select(ProfileRow.name)
            .where(ProfileRow.secret_name == secret_name)
            .order_by(ProfileRow.name)
        )
        return rows.all()

    async def default_name(self, tx: Transaction, *, lock: bool = False) -> str | None:
        """Return the name of the default profile."""
        statement = select(SettingRow.value).where(SettingRow.key == _DEFAULT_KEY)
        if lock:
            statement = statement.with_for_update()
        found = await tx.conn.scalar(statement)
        return found if isinstance(found, str) else None

    async def set_default(self, tx: Transaction, name: str) -> None:
        """Store which profile is the default."""
        await tx.conn.execute(
            insert(SettingRow)
            .values(key=_DEFAULT_KEY, value=name)
            .on_conflict_do_update(
                index_elements=[SettingRow.key],
                set_={"value": name, "updated_at": func.clock_timestamp()},
            )
        )
