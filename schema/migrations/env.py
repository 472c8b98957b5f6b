"""Alembic's environment: runs on the connection it is handed, else on DATABASE_URL."""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import cast

from alembic import context
from sqlalchemy import Connection, create_engine
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeEngine

import schema.tables
from schema.tables.base import Base
from schema.tables.events import Xid8

for module in pkgutil.iter_modules(schema.tables.__path__):
    importlib.import_module(f"schema.tables.{module.name}")
# So that reading a database back knows the type.
cast("dict[str, type[TypeEngine[int]]]", ischema_names)["xid8"] = Xid8


def run(connection: Connection) -> None:
    """Migrate in one transaction: all of it stands, or nothing."""
    context.configure(
        connection=connection, target_metadata=Base.metadata, compare_server_default=True
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over: Connection | None = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    engine = create_engine(
        os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1),
        poolclass=NullPool,
    )
    with engine.connect() as own:
        run(own)
