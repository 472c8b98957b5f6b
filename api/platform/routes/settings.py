"""/api/v1/settings."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from api.deps import CoreDep
from api.errors import documented
from api.input import CheckedRouter
from api.platform.schemas.settings import (
    ComponentsOut,
    SettingIn,
    SettingOut,
    SettingsIn,
    SettingsOut,
    SettingsUpdatedOut,
    SettingUpdatedOut,
    settings_out,
)

router = CheckedRouter(prefix="/api/v1/settings", tags=["Settings"])

Category = Annotated[str, Path(max_length=64, description="Such as llm, email or security")]
Key = Annotated[str, Path(max_length=64, description="The setting's name in its category")]


@router.get("", summary="Get all settings", responses=documented(401, 403, 503))
async def get_settings(core: CoreDep) -> SettingsOut:
    """By category and key. Secrets are masked; what the environment says counts as a default."""
    return settings_out(await core.configuration.catalogue())


@router.get("/health", summary="Check what it stands on", responses=documented(401, 403, 503))
async def get_health(core: CoreDep) -> ComponentsOut:
    """Database, Redis, storage, mail and Temporal are each tried, within two seconds."""
    return ComponentsOut.from_domain(await core.components.look())


@router.put(
    "/bulk",
    summary="Update several settings",
    responses=documented(400, 401, 403, 413, 422, 503),
)
async def update_settings(core: CoreDep, body: SettingsIn) -> SettingsUpdatedOut:
    """All or nothing: one that is unknown or wrong is a 422 that names it."""
    return SettingsUpdatedOut(updated=await core.configuration.set_many(body.settings))


@router.put(
    "/{category}/{key}",
    summary="Update a setting",
    responses=documented(400, 401, 403, 404, 413, 422, 503),
)
async def update_setting(
    core: CoreDep, category: Category, key: Key, body: SettingIn
) -> SettingUpdatedOut:
    """A secret's mask sent back changes nothing."""
    shown = SettingOut.from_domain(await core.configuration.set(category, key, body.value))
    return SettingUpdatedOut(key=f"{category}.{key}", value=shown.value)
