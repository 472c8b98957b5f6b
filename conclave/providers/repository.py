"""All SQL on provider settings."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from conclave.db import Transaction
from conclave.providers.shapes import StoredProvider
from schema.tables.settings import ProviderRow

_COLUMNS = (
    ProviderRow.name,
    ProviderRow.api_key,
    ProviderRow.base_url,
    ProviderRow.default_model,
    ProviderRow.updated_at,
)


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
