"""All SQL on the prices that administrators set."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from conclave.costs.commands import SetPrice
from conclave.db import Transaction
from schema.domain.costs import ModelPrice
from schema.tables.costs import ModelPriceRow

_SELECT = select(
    ModelPriceRow.provider,
    ModelPriceRow.model,
    ModelPriceRow.input_usd_per_million,
    ModelPriceRow.output_usd_per_million,
    ModelPriceRow.updated_at,
)


class PriceRepository:
    """Reads and writes prices."""

    async def get(self, tx: Transaction, provider: str, model: str) -> ModelPrice | None:
        """Return a model's price."""
        rows = await tx.conn.execute(
            _SELECT.where(ModelPriceRow.provider == provider, ModelPriceRow.model == model)
        )
        found = rows.mappings().one_or_none()
        return None if found is None else ModelPrice.model_validate(found)

    async def list(self, tx: Transaction) -> Sequence[ModelPrice]:
        """Return all prices."""
        rows = await tx.conn.execute(_SELECT.order_by(ModelPriceRow.provider, ModelPriceRow.model))
        return [ModelPrice.model_validate(row) for row in rows.mappings()]

    async def put(self, tx: Transaction, wanted: SetPrice) -> ModelPrice:
        """Store a price, in place of the one there was."""
        values = {**wanted.model_dump(), "updated_at": func.clock_timestamp()}
        await tx.conn.execute(
            insert(ModelPriceRow)
            .values(values)
            .on_conflict_do_update(
                index_elements=[ModelPriceRow.provider, ModelPriceRow.model], set_=values
            )
        )
        stored = await self.get(tx, wanted.provider, wanted.model)
        assert stored is not None
        return stored
