"""Stored settings: providers and the application's own."""

from __future__ import annotations

from pydantic import JsonValue
from sqlalchemy import LargeBinary, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt


class ProviderRow(Base):
    """What an administrator set for a provider; `api_key` is encrypted.

    A key that is `secret://name` stands in `secret_name` instead.
    """

    __tablename__ = "providers"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    api_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    secret_name: Mapped[str | None] = mapped_column(String(255))
    base_url: Mapped[str | None] = mapped_column(String(2048))
    default_model: Mapped[str | None] = mapped_column(String(255))
    updated_at: Mapped[CreatedAt]


class SettingRow(Base):
    """One setting, `category.key`."""

    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    value: Mapped[JsonValue] = mapped_column(JSONB)
    updated_at: Mapped[CreatedAt]
