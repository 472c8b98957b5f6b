"""Agents: what is told of their status, and completed tasks counted without waiting for each other.
Tasks: all the runs that are to be stopped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("agents", sa.Column("told_status", sa.String(32), server_default="idle", nullable=False))
    op.execute("UPDATE agents SET told_status = state WHERE state <> 'active'")
    op.create_table(
        "agent_tallies",
        sa.Column("agent_id", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Numeric(18, 3), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "slot", name="pk_agent_tallies"),
    )
    op.add_column("tasks", sa.Column("stop_runs", ARRAY(sa.Integer()), server_default="{}", nullable=False))
    op.execute("UPDATE tasks SET stop_runs = ARRAY[stop_run] WHERE stop_run IS NOT NULL")
    op.drop_column("tasks", "stop_run")


def downgrade() -> None:
    op.add_column("tasks", sa.Column("stop_run", sa.Integer(), nullable=True))
    op.execute("UPDATE tasks SET stop_run = stop_runs[cardinality(stop_runs)]")
    op.drop_column("tasks", "stop_runs")
    op.execute(
        """
        UPDATE agents SET tasks_completed = tasks_completed + tally.completed,
            task_seconds = task_seconds + tally.seconds
        FROM (
            SELECT agent_id, sum(completed) AS completed, sum(seconds) AS seconds
            FROM agent_tallies GROUP BY agent_id
        ) AS tally
        WHERE tally.agent_id = agents.id
        """
    )
    op.drop_table("agent_tallies")
    op.drop_column("agents", "told_status")
