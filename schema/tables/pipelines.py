"""Pipelines, their steps, and their runs with the steps as they were then."""

from __future__ import annotations

from pydantic import JsonValue
from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, SmallInteger, String, Text
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Document, Id, Instant, Ref


class PipelineRow(Base):
    """A pipeline. Its status is derived; its row is locked while a run of it is started."""

    __tablename__ = "pipelines"
    __table_args__ = (
        Index("ix_pipelines_living", "id", postgresql_where=sql("deleted_at IS NULL")),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    is_template: Mapped[bool] = mapped_column(Boolean, server_default="false")
    config: Mapped[Document] = mapped_column(server_default="{}")
    created_by: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]


class PipelineStepRow(Base):
    """A step as it is defined. `position` is what clients call order."""

    __tablename__ = "pipeline_steps"
    __table_args__ = (Index("ix_pipeline_steps_order", "pipeline_id", "position", "id"),)

    id: Mapped[Id]
    pipeline_id: Mapped[Ref] = mapped_column(ForeignKey("pipelines.id"))
    name: Mapped[str] = mapped_column(String(255))
    step_type: Mapped[str] = mapped_column(String(16))
    position: Mapped[int] = mapped_column(Integer)
    config: Mapped[Document] = mapped_column(server_default="{}")
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    depends_on: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    created_at: Mapped[CreatedAt]


class PipelineRunRow(Base):
    """A run. Whatever changes it or its steps locks this row first, then tasks.

    `origin_key` is set where a trigger started it: the same key is the same run.
    """

    __tablename__ = "pipeline_runs"
    __table_args__ = (
        Index("ix_pipeline_runs_of", "pipeline_id", "id"),
        Index(
            "ix_pipeline_runs_active",
            "pipeline_id",
            postgresql_where=sql("status IN ('queued', 'running')"),
        ),
    )

    id: Mapped[Id]
    pipeline_id: Mapped[Ref] = mapped_column(ForeignKey("pipelines.id"))
    name: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16), server_default="queued")
    trigger: Mapped[str] = mapped_column(String(16))
    trigger_id: Mapped[int | None] = mapped_column(BigInteger)
    origin_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    chain_depth: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    started_by: Mapped[int | None] = mapped_column(BigInteger)
    input: Mapped[Document] = mapped_column(server_default="{}")
    config: Mapped[Document] = mapped_column(server_default="{}")
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Instant | None]
    finished_at: Mapped[Instant | None]


class PipelineStepRunRow(Base):
    """A step of a run: a copy of what it was when the run started, and how it stands.

    `due_at` is when its wait is over, or when its next attempt may start.
    """

    __tablename__ = "pipeline_step_runs"

    run_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("pipeline_runs.id"), primary_key=True
    )
    step_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(255))
    step_type: Mapped[str] = mapped_column(String(16))
    position: Mapped[int] = mapped_column(Integer)
    config: Mapped[Document]
    agent_id: Mapped[int | None] = mapped_column(BigInteger)
    depends_on: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    status: Mapped[str] = mapped_column(String(16), server_default="pending")
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    task_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    output: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[str | None] = mapped_column(Text)
    due_at: Mapped[Instant | None]
    started_at: Mapped[Instant | None]
    finished_at: Mapped[Instant | None]
