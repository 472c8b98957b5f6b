"""/settings."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from api.deps import CoreDep
from api.errors import documented
from api.gathering.schemas.settings import (
    ApplicationOut,
    ApplicationPatch,
    ProviderOut,
    ProviderPatch,
    ProviderTestOut,
    SettingsOut,
)
from api.input import CheckedRouter

router = CheckedRouter(prefix="/settings", tags=["Settings"])

Provider = Annotated[
    str,
    Path(max_length=64, description="anthropic, openai, deepseek, mistral, google or ollama"),
]


@router.get("", summary="Get all settings", responses=documented(401, 403, 503))
async def get_settings(core: CoreDep) -> SettingsOut:
    """Providers with their keys masked, the database without its password, the application."""
    return SettingsOut.from_domain(
        await core.providers.list(),
        await core.application.database(),
        await core.application.get(),
    )


@router.patch(
    "/providers/{provider}",
    summary="Update a provider",
    responses=documented(400, 401, 403, 404, 413, 422, 503),
)
async def update_provider(core: CoreDep, provider: Provider, body: ProviderPatch) -> ProviderOut:
    """The key is stored encrypted; `secret://name` takes it from the vault at each use.

    What is left out stays; null clears.
    """
    return ProviderOut.from_domain(await core.providers.update(provider, body.to_command()))


@router.post(
    "/providers/{provider}/test",
    summary="Test a provider",
    responses=documented(401, 403, 404, 422, 503),
)
async def check_provider(core: CoreDep, provider: Provider) -> ProviderTestOut:
    """Ask for its list of models, at most 10 seconds. A failure answers 200 with its reason."""
    return ProviderTestOut.from_domain(await core.providers.test(provider))


@router.patch(
    "/application",
    summary="Update the application's settings",
    responses=documented(400, 401, 403, 413, 422, 503),
)
async def update_application(core: CoreDep, body: ApplicationPatch) -> ApplicationOut:
    """A changed log level holds at once in the process that answers, elsewhere after a restart."""
    return ApplicationOut.from_domain(await core.application.update(body.to_command()))
