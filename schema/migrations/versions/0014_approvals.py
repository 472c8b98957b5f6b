"""Who decides an approval, how many of them, their votes, and a second group after a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def _columns():
    everybody = sa.text("'\"operators\"'")
    return [
        sa.Column("approvers", JSONB, server_default=everybody, nullable=False),
        sa.Column("required_approvals", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("approvals_count", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("four_eyes", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("escalate_to", JSONB, nullable=True),
        sa.Column("escalates_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("escalated_at", sa.DateTime(timezone=True), nullable=True),
    ]


def upgrade() -> None:
    for column in _columns():
        op.add_column("approvals", column)
    op.execute("UPDATE approvals SET approvals_count = 1 WHERE status = 'approved'")
    op.create_table(
        "approval_votes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("approval_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("approve", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["approval_id"], ["approvals.id"], name="fk_approval_votes_approval_id_approvals"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_approval_votes"),
        sa.UniqueConstraint(
            "approval_id", "user_id", name="uq_approval_votes_approval_id_user_id"
        ),
    )


def downgrade() -> None:
    # The build before would take one yes of anybody for enough.
    op.execute(
        "UPDATE approvals SET expires_at = clock_timestamp() WHERE status = 'pending'"
        " AND (required_approvals > 1 OR four_eyes OR approvers <> '\"operators\"')"
    )
    op.drop_table("approval_votes")
    for column in reversed(_columns()):
        op.drop_column("approvals", column.name)
