"""The API: four dialects over one core, built without connecting to anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI

from api import codec, errors, reference
from api.admission import RECHECK_SECONDS, Admission, Limiter
from api.aether.dialect import AETHER
from api.aether.routes import health as aether_health
from api.aether.routes import projects
from api.aether.routes import webhooks as inbound_webhooks
from api.dialect import Dialect
from api.draining import Draining, drain_on_sigterm
from api.gateway.dialect import GATEWAY
from api.gateway.routes import aliases, chats, permissions, profiles
from api.gateway.routes import sandbox as sandbox_routes
from api.gateway.routes import websocket as chat_socket
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
from api.openapi import DescribedAPI
from api.platform.dialect import PLATFORM
from api.platform.routes import agents as platform_agents
from api.platform.routes import analytics as platform_analytics
from api.platform.routes import (
    api_keys,
    approvals,
    audit,
    auth,
    dead_letters,
    files,
    secrets,
    sessions,
    tasks,
    users,
)
from api.platform.routes import breakers as platform_breakers
from api.platform.routes import costs as platform_costs
from api.platform.routes import health as platform_health
from api.platform.routes import ip_rules as platform_ip_rules
from api.platform.routes import notifications as platform_notifications
from api.platform.routes import security as platform_security
from api.platform.routes import settings as platform_settings
from api.platform.routes import triggers as platform_triggers
from api.platform.routes import workflows as platform_workflows
from api.rate_limits import RateLimits
from api.security import Gate, check_bind
from api.stream import running_hub
from conclave.addresses import Proxies
from conclave.container import Core, build_core
from conclave.health.service import product_version
from conclave.identity.signing import check_signing_keys
from conclave.logging import configure_logging
from conclave.networks import parse_networks
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
    chat_socket.router,  # before the channels, whose last one refuses every other path
    websockets.router,
    settings_routes.router,
    platform_health.router,
    api_keys.router,
    platform_settings.router,
    platform_security.router,
    platform_ip_rules.router,
    auth.router,
    users.router,
    sessions.router,
    audit.router,
    secrets.router,
    approvals.router,
    tasks.router,
    dead_letters.router,
    platform_notifications.router,
    platform_agents.router,
    platform_analytics.router,
    platform_breakers.router,
    files.router,
    platform_workflows.router,
    platform_costs.router,
    platform_triggers.router,
    inbound_webhooks.router,
    aether_health.router,
    projects.router,
    chats.router,
    profiles.router,
    permissions.router,
    sandbox_routes.router,
    aliases.router,
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
    {"name": "Authentication", "description": "Signing in and out, and one's own account."},
    {"name": "Admin", "description": "What administrators look after, and the audit log."},
    {"name": "Projects", "description": "Repositories and their checkouts."},
    {"name": "Chats", "description": "A person talks with an agent that acts."},
    {"name": "Profiles", "description": "Which models chats talk with."},
    {"name": "Permissions", "description": "What chats may do with tools."},
    {"name": "Sandbox", "description": "What confines the commands that agents run."},
    {"name": "Settings", "description": "Model providers and the application's own settings."},
    {"name": "Security", "description": "Who may call, from where, and with what."},
    {"name": "Costs", "description": "What model calls cost, and how much they may."},
    {"name": "Approvals", "description": "What waits for a person's yes or no."},
    {"name": "Tasks", "description": "Work that agents see to its end."},
    {"name": "Dead letters", "description": "Tasks that failed for good, and second chances."},
    {"name": "Analytics", "description": "What was done, counted."},
    {"name": "Notifications", "description": "What the caller is told in the product."},
    {"name": "Circuit breakers", "description": "What is not called while it does not answer."},
    {"name": "Files", "description": "What people upload and tasks hand in."},
    {"name": "Workflows", "description": "Steps in an order, and their runs."},
    {"name": "Triggers", "description": "What happens by itself: times, events, thresholds."},
    {"name": "Secrets", "description": "Values that are kept encrypted and used by name."},
]


def create_app(
    settings: Settings | None = None,
    core: Core | None = None,
    *,
    limiter: Limiter | None = None,
    recheck_seconds: float = RECHECK_SECONDS,
) -> FastAPI:
    """Build the application; `core` is for tests, else the lifespan builds and closes one.

    `limiter` too: else the settings say how many requests are let through.

    Raises `NoRule` for a route that `api.access` does not name.
    """
    settings = settings or get_settings()
    draining = Draining()
    limits = RateLimits(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        check_bind(settings)
        check_signing_keys(settings)
        if not structlog.is_configured():
            configure_logging(settings.log_level, settings.log_format)
        running = core or await build_core(settings)
        app.state.core = running
        await running.application.apply_log_level()
        await running.identity.registration.try_to_seed()
        try:
            with drain_on_sigterm(draining, settings.drain_seconds):
                async with running_hub(running, draining) as app.state.hub:
                    yield
        finally:
            draining.begin()
            await limits.close()
            if core is None:
                await running.close()

    app = DescribedAPI(
        title="Conclave",
        version=product_version(),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        lifespan=lifespan,
        docs_url=None,  # api.reference serves both without another host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.draining = draining
    app.state.core = core
    for router in ROUTERS:
        # `include_router` would hide the routes behind one more matching of every request.
        app.router.routes.extend(router.routes)
    Admission(settings, limiter or limits, recheck_seconds).protect(app.router)
    errors.install(app, DIALECTS)
    _add_middleware(app, settings)
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """Put what every request passes around the routes, the innermost first."""
    app.add_middleware(Head)
    app.add_middleware(TrailingSlash)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        dialects=DIALECTS,
        own_limits=[files.UPLOAD_PATH],
    )
    app.add_middleware(Gate, settings=settings, dialects=DIALECTS)
    proxies = Proxies(parse_networks(settings.trusted_proxies))
    app.add_middleware(RequestContext, dialects=DIALECTS, proxies=proxies)


app = create_app()
