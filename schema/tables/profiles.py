"""Profiles: the models that chats choose between."""

from __future__ import annotations

from sqlalchemy import LargeBinary, String, false
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt


class ProfileRow(Base):
    """A named model and how it is reached; `api_key` is encrypted.

    A key that is `secret://name` stands in `secret_name` instead.
    """

    __tablename__ = "profiles"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    provider: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(255))
    base_url: Mapped[str | None] = mapped_column(String(2048))
    is_url_trusted: Mapped[bool] = mapped_column(server_default=false())
    api_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    secret_name: Mapped[str | None] = mapped_column(String(255))
    context_window: Mapped[int | None]
    max_output_tokens: Mapped[int | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
