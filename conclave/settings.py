"""Settings, read from the environment once at start."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.networks import parse_networks
from conclave.origins import parse_origins

_RATE = re.compile(r"[1-9][0-9]{0,8}/(?:[1-9][0-9]{0,3} ?)?(?:second|minute|hour|day)s?")


class AuthMode(StrEnum):
    """Who may call without credentials: on loopback anybody, or nobody."""

    LOCAL = "local"
    REQUIRED = "required"


class LogFormat(StrEnum):
    """How log lines are written."""

    CONSOLE = "console"
    JSON = "json"


class Settings(BaseSettings):
    """Environment names are the field names in capitals (contract/README.md)."""

    # An empty variable is one that is not set: compose files pass them on so.
    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    auth_mode: AuthMode = AuthMode.LOCAL
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65535)
    database_url: str = "postgresql://postgres@127.0.0.1:5432/conclave"
    database_pool_size: int = Field(default=20, ge=1)
    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_ui_url: str | None = None
    encryption_key: SecretStr | None = None
    """Base64 of 32 bytes; a comma list rotates: the first writes, all read."""
    conclave_secrets_file: Path | None = None
    """Where ENCRYPTION_KEY was read from; a running process learns new keys there."""
    jwt_secret: SecretStr | None = None
    """Signs tokens; a comma list rotates: the first signs, the first two verify."""
    gateway_token: SecretStr | None = None
    admin_email: str | None = None
    admin_password: SecretStr | None = None
    trusted_proxies: str = ""
    """Comma list of networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    cors_origins: str = ""
    """Comma list of origins that may call from a browser."""
    rate_limit_strict: str | None = None
    rate_limit_standard: str | None = None
    rate_limit_relaxed: str | None = None
    rate_limit_bulk: str | None = None
    """Such as 60/minute; "off" turns a tier off. Unset: the contract's under AUTH_MODE=required."""
    redis_url: SecretStr | None = None
    object_store_url: str | None = None
    smtp_host: str | None = None
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_from: str | None = None
    conclave_data_dir: Path = Path("~/.conclave").expanduser()
    log_level: str = "INFO"
    log_format: LogFormat = LogFormat.CONSOLE
    environment: str = "development"
    debug: bool = False
    outgoing_allow: str = ""
    """Comma list of host:port in private ranges that an operator lets agents reach."""
    http_tool_secrets: str = ""
    """Comma list of name@host: the secrets that the tool http_request may send, and where to."""
    sandbox_unsandboxed: str | None = None
    """"allow" lets commands run without a sandbox where none works or it is switched off."""
    max_body_bytes: int = Field(default=10 * 1024 * 1024, ge=1024)
    advance_wait_seconds: float = Field(default=300.0, gt=0)
    """How long POST advance waits for its turn before it answers 202."""
    drain_seconds: float = Field(default=1.0, ge=0)
    """Between SIGTERM and closing the sockets: readiness says 503 meanwhile."""
    worker_max_cached_workflows: int = Field(default=200, ge=0)
    worker_max_activities: int = Field(default=100, ge=1)
    worker_max_tools: int = Field(default=20, ge=1)
    conclave_failpoints: Path | None = None
    """For tests alone: a directory of tokens that kill processes (`conclave.failpoints`)."""

    @field_validator(
        "rate_limit_strict", "rate_limit_standard", "rate_limit_relaxed", "rate_limit_bulk"
    )
    @classmethod
    def _is_a_rate(cls, value: str | None) -> str | None:
        text = (value or "").strip().lower()
        if text and text != "off" and not _RATE.fullmatch(text):
            raise ValueError('must be a number of requests a time, such as 60/minute, or "off"')
        return text or None

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if not separator or scheme.split("+")[0] not in {"postgresql", "postgres"}:
            raise ValueError("must start with postgresql://")
        return value

    @field_validator("object_store_url")
    @classmethod
    def _is_a_store(cls, value: str | None) -> str | None:
        if value and not value.startswith(("file:///", "file://localhost/", "s3://")):
            raise ValueError("must start with file:/// or s3://")
        return value or None

    @field_validator("conclave_failpoints")
    @classmethod
    def _is_for_tests(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("auth_mode") is not AuthMode.LOCAL:
            raise ValueError("kills processes, for tests: refused under AUTH_MODE=required")
        if value is not None and not value.is_dir():
            raise ValueError("must name a directory")
        return value

    @field_validator("http_tool_secrets")
    @classmethod
    def _is_list_of_secrets(cls, value: str) -> str:
        if not all("@" in pair.strip("@ ") for pair in value.split(",") if pair.strip()):
            raise ValueError("must be a comma list of name@host")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _is_list_of_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _is_list_of_origins(cls, value: str) -> str:
        parse_origins(value)
        return value

    @property
    def tool_secret_hosts(self) -> dict[str, frozenset[str]]:
        """Return HTTP_TOOL_SECRETS as the hosts of each secret."""
        found: dict[str, set[str]] = {}
        for pair in filter(None, (piece.strip() for piece in self.http_tool_secrets.split(","))):
            name, _, host = pair.rpartition("@")
            found.setdefault(name, set()).add(host.lower().rstrip("."))
        return {name: frozenset(hosts) for name, hosts in found.items()}

    @property
    def sqlalchemy_url(self) -> str:
        """Return DATABASE_URL with the driver named, as SQLAlchemy wants it."""
        return f"postgresql+psycopg://{self.database_url.partition('://')[2]}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the process's settings."""
    return Settings()
