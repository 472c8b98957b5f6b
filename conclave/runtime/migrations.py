"""Brings a database to the schema of this build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import schema
from conclave.settings import Settings

_LOCK = 7_203_951_884_110_401
"""Any fixed number: two starters must mean the same lock."""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply what is missing; a second starter waits for the first. Blocking."""
    _run(database_url, lambda config: command.upgrade(config, revision))


def downgrade(database_url: str, revision: str) -> None:
    """Take migrations back, with what they hold. Blocking."""
    _run(database_url, lambda config: command.downgrade(config, revision))


def check(database_url: str) -> None:
    """Raise alembic.util.CommandError where the tables and the migrations differ."""
    _run(database_url, command.check)


def _run(database_url: str, act: Callable[[Config], None]) -> None:
    engine = create_engine(Settings(database_url=database_url).sqlalchemy_url, poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(_directory()).replace("%", "%%"))
    # The lock has a connection of its own: it must outlast the migrations' transaction.
    with engine.connect() as guard, engine.connect() as connection:
        guard.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        config.attributes["connection"] = connection
        act(config)
        connection.commit()


def _directory() -> Path:
    return Path(schema.__path__[0]) / "migrations"
