"""What agents are said to be able to do, and what tasks ask for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agent_capabilities",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=False),
        sa.Column("capability", sa.String(128), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent_capabilities"),
    )
    op.create_index("uq_agent_capabilities", "agent_capabilities", ["agent_id", "capability"], unique=True)
    op.add_column(
        "tasks",
        sa.Column("required_capabilities", ARRAY(sa.String(128)), server_default="{}", nullable=False),
    )


def downgrade() -> None:
    op.drop_column("tasks", "required_capabilities")
    op.drop_table("agent_capabilities")
