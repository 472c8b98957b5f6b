"""Profiles, and chats that are deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _instant(name):
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
    )


def upgrade() -> None:
    op.create_table(
        "profiles",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("base_url", sa.String(length=2048), nullable=True),
        sa.Column("api_key", sa.LargeBinary(), nullable=True),
        sa.Column("secret_name", sa.String(length=255), nullable=True),
        sa.Column("context_window", sa.Integer(), nullable=True),
        sa.Column("max_output_tokens", sa.Integer(), nullable=True),
        _instant("created_at"),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("name", name="pk_profiles"),
    )
    op.add_column(
        "conversations", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index(
        "ix_conversations_chats",
        "conversations",
        ["owner", "updated_at"],
        postgresql_where=sa.text("kind = 'chat' AND deleted_at IS NULL"),
    )
    op.create_index(
        "ix_conversations_profile",
        "conversations",
        ["profile"],
        postgresql_where=sa.text("profile IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_conversations_profile", "conversations")
    op.drop_index("ix_conversations_chats", "conversations")
    op.drop_column("conversations", "deleted_at")
    op.drop_table("profiles")
