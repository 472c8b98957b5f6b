"""Compactions, and how full the window of a conversation's model is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_CONTEXT = ("context_model", "context_window", "context_tokens", "compacted_seq")


def upgrade() -> None:
    op.add_column(
        "conversations",
        sa.Column("compacted_seq", sa.Integer(), server_default="0", nullable=False),
    )
    op.add_column("conversations", sa.Column("context_tokens", sa.Integer(), nullable=True))
    op.add_column("conversations", sa.Column("context_window", sa.Integer(), nullable=True))
    op.add_column("conversations", sa.Column("context_model", sa.String(255), nullable=True))
    op.add_column(
        "inbox", sa.Column("kind", sa.String(16), server_default="turn", nullable=False)
    )
    op.create_table(
        "compactions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("through_seq", sa.Integer(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("tokens_before", sa.Integer(), nullable=False),
        sa.Column("tokens_after", sa.Integer(), nullable=False),
        sa.Column("turns_removed", sa.Integer(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("call_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_compactions_conversation_id_conversations",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_compactions"),
        sa.UniqueConstraint(
            "conversation_id", "through_seq", name="uq_compactions_conversation_id_through_seq"
        ),
    )


def downgrade() -> None:
    op.drop_table("compactions")
    op.drop_column("inbox", "kind")
    for column in _CONTEXT:
        op.drop_column("conversations", column)
