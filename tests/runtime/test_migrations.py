"""Migrations against a real PostgreSQL: they build what the tables say, and can be taken back."""

import asyncio

import psycopg

from conclave.runtime import migrations
from conclave.runtime.postgres import Postgres
from schema.tables.base import Base


def _tables(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {str(row[0]) for row in rows}


def test_an_empty_database_goes_up_down_and_up_again(postgres: Postgres):
    postgres.create_database("up_and_down")
    url = postgres.url("up_and_down")
    migrations.upgrade(url)
    there = _tables(url)
    assert {"agents", "circles", "conversations", "messages", "events", "outbox"} <= there
    migrations.downgrade(url, "base")
    assert _tables(url) == {"alembic_version"}
    migrations.upgrade(url)
    assert _tables(url) == there


def test_the_migrations_build_what_the_tables_say(postgres: Postgres):
    postgres.create_database("compared")
    url = postgres.url("compared")
    migrations.upgrade(url)
    assert _tables(url) == {*Base.metadata.tables, "alembic_version"}
    migrations.check(url)  # raises where a column, an index or a default differs


def test_agents_made_before_memories_are_kept_up_and_down(postgres: Postgres):
    postgres.create_database("with_data")
    url = postgres.url("with_data")
    migrations.upgrade(url, "0001")
    with psycopg.connect(url) as conn:
        conn.execute(
            "INSERT INTO agents (slug, name, provider, model, personality, background, config)"
            " VALUES ('sophie', 'Sophie', 'p', 'm', '{}', '{}', '{}')"
        )
    migrations.upgrade(url, "0002")
    with psycopg.connect(url) as conn:
        conn.execute(
            "INSERT INTO memories (agent_id, scope, key, content, memory_type, tags, importance)"
            " SELECT id, 'agent', 'k', 'v', 'fact', '{}', 0.5 FROM agents"
        )
    migrations.downgrade(url, "0001")
    assert "memories" not in _tables(url)
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT slug FROM agents").fetchall() == [("sophie",)]


async def test_two_starters_at_once_migrate_once(postgres: Postgres):
    postgres.create_database("contended")
    url = postgres.url("contended")
    starters = (asyncio.to_thread(migrations.upgrade, url) for _ in range(3))
    await asyncio.gather(*starters)
    assert "agents" in _tables(url)
