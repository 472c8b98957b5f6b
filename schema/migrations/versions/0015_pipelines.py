"""Pipelines, their steps, their runs, and the steps of those."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pipelines",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_template", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("config", JSONB, server_default="{}", nullable=False),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_pipelines"),
    )
    op.create_index("ix_pipelines_living", "pipelines", ["id"], postgresql_where=sa.text("deleted_at IS NULL"))
    op.create_table(
        "pipeline_steps",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("step_type", sa.String(16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("config", JSONB, server_default="{}", nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("depends_on", ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipelines.id"], name="fk_pipeline_steps_pipeline_id_pipelines"),
        sa.PrimaryKeyConstraint("id", name="pk_pipeline_steps"),
    )
    op.create_index("ix_pipeline_steps_order", "pipeline_steps", ["pipeline_id", "position", "id"])
    op.create_table(
        "pipeline_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), server_default="queued", nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("trigger_id", sa.BigInteger(), nullable=True),
        sa.Column("origin_key", sa.String(255), nullable=True),
        sa.Column("chain_depth", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("started_by", sa.BigInteger(), nullable=True),
        sa.Column("input", JSONB, server_default="{}", nullable=False),
        sa.Column("config", JSONB, server_default="{}", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipelines.id"], name="fk_pipeline_runs_pipeline_id_pipelines"),
        sa.PrimaryKeyConstraint("id", name="pk_pipeline_runs"),
        sa.UniqueConstraint("origin_key", name="uq_pipeline_runs_origin_key"),
    )
    op.create_index("ix_pipeline_runs_active", "pipeline_runs", ['pipeline_id'], postgresql_where=sa.text("status IN ('queued', 'running')"))
    op.create_index("ix_pipeline_runs_of", "pipeline_runs", ["pipeline_id", "id"])
    op.create_table(
        "pipeline_step_runs",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("step_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("step_type", sa.String(16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("config", JSONB, nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("depends_on", ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("status", sa.String(16), server_default="pending", nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("task_ids", ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("output", JSONB, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["pipeline_runs.id"], name="fk_pipeline_step_runs_run_id_pipeline_runs"),
        sa.PrimaryKeyConstraint("run_id", "step_id", name="pk_pipeline_step_runs"),
    )


def downgrade() -> None:
    op.drop_table("pipeline_step_runs")
    op.drop_table("pipeline_runs")
    op.drop_table("pipeline_steps")
    op.drop_table("pipelines")
