"""The API: four dialects over one core, built without connecting to anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI

from api import codec, errors, reference
from api.aether.dialect import AETHER
from api.aether.routes import health as aether_health
from api.aether.routes import projects
from api.dialect import Dialect
from api.draining import Draining, drain_on_sigterm
from api.gateway.dialect import GATEWAY
from api.gathering.dialect import GATHERING
from api.gathering.routes import (
    agents,
    circles,
    conversations,
    events,
    health,
    memories,
    websockets,
)
from api.gathering.routes import settings as settings_routes
from api.middleware import BodyLimit, Head, RequestContext, TrailingSlash
from api.platform.dialect import PLATFORM
from api.platform.routes import health as platform_health
from api.security import Gate, check_bind
from api.stream import running_hub
from conclave.container import Core, build_core
from conclave.health.service import product_version
from conclave.logging import configure_logging
from conclave.settings import Settings, get_settings

DIALECTS: tuple[Dialect, ...] = (GATHERING, PLATFORM, GATEWAY, AETHER)
"""The first one also answers for paths that nobody owns; of two that own one, the first does."""
ROUTERS = (
    health.router,
    agents.router,
    circles.router,
    conversations.router,
    memories.router,
    events.router,
    websockets.router,
    settings_routes.router,
    platform_health.router,
    aether_health.router,
    projects.router,
    codec.router,
    reference.router,
)
_DESCRIPTION = """Teams of LLM agents as durable workflows.

Make agents, put them in circles, and let them talk: conversations run as Temporal workflows and
survive whatever is restarted. Lists are bare arrays with `X-Total-Count`, or pages where `page`
or `page_size` is sent. Errors are `{"detail": ...}`; unknown fields are ignored.
"""
_TAGS = [
    {"name": "Health", "description": "Whether this process and what it stands on are well."},
    {"name": "Agents", "description": "Who speaks, with which model, and sessions with one."},
    {"name": "Circles", "description": "Teams and the rules they talk under."},
    {"name": "Conversations", "description": "What agents say to each other and to you."},
    {"name": "Memory", "description": "What agents and teams are to remember."},
    {"name": "Projects", "description": "Repositories and their checkouts."},
    {"name": "Settings", "description": "Model providers and the application's own settings."},
]


def create_app(settings: Settings | None = None, core: Core | None = None) -> FastAPI:
    """Build the application; `core` is for tests, else the lifespan builds and closes one."""
    settings = settings or get_settings()
    draining = Draining()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        check_bind(settings)
        if not structlog.is_configured():
            configure_logging(settings.log_level, settings.log_format)
        running = core or await build_core(settings)
        app.state.core = running
        await running.providers.application.apply_log_level()
        try:
            with drain_on_sigterm(draining, settings.drain_seconds):
                async with running_hub(running, draining) as app.state.hub:
                    yield
        finally:
            draining.begin()
            if core is None:
                await running.close()

    app = FastAPI(
        title="Conclave",
        version=product_version(),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        lifespan=lifespan,
        docs_url=None,  # api.reference serves it without another host
        redirect_slashes=False,
    )
    app.state.draining = draining
    app.state.core = core
    for router in ROUTERS:
        # `include_router` would hide the routes behind one more matching of every request.
        app.router.routes.extend(router.routes)
    errors.install(app, DIALECTS)
    app.add_middleware(Head)
    app.add_middleware(TrailingSlash)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, dialects=DIALECTS)
    app.add_middleware(Gate, settings=settings, dialects=DIALECTS)
    app.add_middleware(RequestContext, dialects=DIALECTS)
    return app


app = create_app()
