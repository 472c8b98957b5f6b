"""All SQL on provider settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from conclave.providers.shapes import StoredProvider
from conclave.resealing import SealedColumn
from schema.tables.settings import ProviderRow

_COLUMNS = (
    ProviderRow.name,
    ProviderRow.api_key,
    ProviderRow.secret_name,
    ProviderRow.base_url,
    ProviderRow.default_model,
    ProviderRow.updated_at,
)


def key_context(name: int | str) -> str:
    """Return what a sealed API key is bound to."""
    return f"provider:{name}"


SEALED_PLACES = (SealedColumn(ProviderRow, ProviderRow.name, ProviderRow.api_key, key_context),)


class ProviderRepository:
    """Provider rows exist only where something was stored."""

    async def all(self, tx: Transaction) -> dict[str, StoredProvider]:
        """Return every stored provider by name."""
        rows = await tx.conn.execute(select(*_COLUMNS))
        found = (StoredProvider.model_validate(row) for row in rows.mappings())
        return {provider.name: provider for provider in found}

    async def store(
        self, tx: Transaction, name: str, values: Mapping[str, bytes | str | None]
    ) -> None:
        """Set the given columns, making the row where there is none."""
        statement = insert(ProviderRow).values(name=name, **values)
        statement = statement.on_conflict_do_update(
            index_elements=[ProviderRow.name],
            set_={**values, "updated_at": func.clock_timestamp()},
        )
        await tx.conn.execute(statement)

    async def using_secret(self, tx: Transaction, secret_name: str) -> Sequence[str]:
        """Return the providers whose key is this secret."""
        rows = await tx.conn.execute(
            select(ProviderRow.name)
            .where(ProviderRow.secret_name == secret_name)
            .order_by(ProviderRow.name)
        )
        return rows.scalars().all()
