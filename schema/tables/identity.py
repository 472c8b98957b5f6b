"""Users, how they sign in, and what they are signed in with."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from schema.tables.base import Base, CreatedAt, Id, Instant


class UserRow(Base):
    """An account. `email` is lower-case; secrets of the second factor are sealed."""

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_email", "email", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )

    id: Mapped[Id]
    email: Mapped[str] = mapped_column(String(320))
    full_name: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    is_active: Mapped[bool] = mapped_column(Boolean, server_default="true")
    password_hash: Mapped[str] = mapped_column(String(255))
    password_changed_at: Mapped[CreatedAt]
    mfa_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    mfa_pending_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    mfa_last_step: Mapped[int | None] = mapped_column(BigInteger)
    """The time step of the last code that was accepted: no code works twice."""
    last_login_at: Mapped[Instant | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[Instant | None]


class PasswordHistoryRow(Base):
    """Hashes of passwords a user had before."""

    __tablename__ = "password_history"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[CreatedAt]


class BackupCodeRow(Base):
    """A recovery code, hashed; each works once."""

    __tablename__ = "backup_codes"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64))
    used_at: Mapped[Instant | None]


class UserSessionRow(Base):
    """A login; its access tokens are refused once it is revoked."""

    __tablename__ = "user_sessions"
    __table_args__ = (Index("ix_user_sessions_user_id_id", "user_id", "id"),)

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    ip_address: Mapped[str | None] = mapped_column(String(64))
    user_agent: Mapped[str | None] = mapped_column(String(512))
    created_at: Mapped[CreatedAt]
    last_active_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    revoked_at: Mapped[Instant | None]
    revoked_reason: Mapped[str | None] = mapped_column(String(32))


class RefreshTokenRow(Base):
    """A refresh token by its jti; `killed_at` is when it was exchanged for the next one."""

    __tablename__ = "refresh_tokens"

    jti: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[int] = mapped_column(
        ForeignKey("user_sessions.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    killed_at: Mapped[Instant | None]


class LoginAttemptsRow(Base):
    """Failed logins of an address, counted whether or not it has an account."""

    __tablename__ = "login_attempts"

    email: Mapped[str] = mapped_column(String(320), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    window_started_at: Mapped[Instant]
    locked_until: Mapped[Instant | None]


class MfaChallengeRow(Base):
    """A login that waits for its second factor; void after too many wrong codes."""

    __tablename__ = "mfa_challenges"

    jti: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    failures: Mapped[int] = mapped_column(Integer, server_default="0")
    expires_at: Mapped[Instant]
    used_at: Mapped[Instant | None]


class ApiKeyRow(Base):
    """A key: `key_hash` is its HMAC-SHA-256 under a key of the server."""

    __tablename__ = "api_keys"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    key_prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(Text)
    """Names joined by a blank."""
    expires_at: Mapped[Instant | None]
    last_used_at: Mapped[Instant | None]
    revoked_at: Mapped[Instant | None]
    created_at: Mapped[CreatedAt]


class IpRuleRow(Base):
    """Which addresses may call /api/v1 and /ws."""

    __tablename__ = "ip_rules"

    id: Mapped[Id]
    cidr: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(8))
    description: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
