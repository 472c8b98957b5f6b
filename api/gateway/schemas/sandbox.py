"""The sandbox's settings as this dialect writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, JsonValue, StringConstraints

from schema.domain.sandbox import SandboxBackend, SandboxConfig, SandboxStatus, WorkspaceMode


class SandboxIn(BaseModel):
    """Changes to the settings: what is left out stays."""

    enabled: bool | None = None
    memory_limit: Annotated[str, StringConstraints(max_length=16)] | None = None
    cpu_quota: Annotated[float, Field(gt=0, le=64)] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=600)] | None = None
    network_enabled: bool | None = None
    workspace_mode: WorkspaceMode | None = None

    def changes(self) -> dict[str, JsonValue]:
        """Return what was sent."""
        return self.model_dump(mode="json", exclude_none=True)


class SandboxOut(BaseModel):
    """The settings, and what is really used on this host."""

    enabled: bool
    memory_limit: str
    cpu_quota: float
    timeout_seconds: int
    network_enabled: bool
    workspace_mode: WorkspaceMode
    backend: SandboxBackend
    available: bool

    @classmethod
    def of(cls, config: SandboxConfig, status: SandboxStatus) -> SandboxOut:
        """Return both in this dialect's shape."""
        return cls(
            enabled=config.enabled,
            memory_limit=config.memory_limit,
            cpu_quota=config.cpu_quota,
            timeout_seconds=config.timeout_seconds,
            network_enabled=config.network_enabled,
            workspace_mode=config.workspace_mode,
            backend=status.backend,
            available=status.available,
        )


class SandboxSwitch(BaseModel):
    """On or off."""

    enabled: bool


class BuiltOut(BaseModel):
    """The sandbox works on this host."""

    built: bool = True
