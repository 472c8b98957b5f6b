"""The composition root: the one place where adapters are built and services get them.

The API and the worker alone use it. litellm is loaded by `WorkerParts.load` only, so that an API
process never carries it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pydantic import SecretStr
from temporalio.client import Client

from activities.conversations import ConversationActivities
from activities.git import GitActivities
from activities.llm import LLMActivities
from conclave.adapters.bus.postgres import PostgresBus
from conclave.adapters.bus.watchers import StreamWatchers
from conclave.adapters.git.program import GitProgram
from conclave.adapters.git.remotes import GuardedRemotes, known_credentials
from conclave.adapters.git.repository import GitRepository
from conclave.adapters.llm.catalogue import PriceMapCatalogue
from conclave.adapters.llm.demo import DemoGateway
from conclave.adapters.llm.gateway import LiteLLMGateway
from conclave.adapters.llm.probe import HttpProviderProbe
from conclave.adapters.llm.routing import RoutingGateway
from conclave.adapters.net.guard import OutgoingGuard, parse_allow
from conclave.adapters.workspace.store import DirectoryStore
from conclave.agents.service import AgentService
from conclave.auditing import AuditLog
from conclave.circles.service import CircleService
from conclave.conversations.control import CircleConversations
from conclave.conversations.dispatch import TARGET_KIND, ConversationDispatch
from conclave.conversations.record import ConversationRecord
from conclave.conversations.service import ConversationService
from conclave.conversations.turns import TurnService
from conclave.crypto import Keyring
from conclave.db import Database
from conclave.events import EventLog
from conclave.health.service import HealthService
from conclave.identity.authenticator import CredentialAuthenticator
from conclave.mailbox import Mailbox
from conclave.memories.service import MemoryService
from conclave.outbox.relay import Relay
from conclave.ports import Authenticator, EventBus, WorkflowEngine, WorkspaceStore
from conclave.providers.service import ProviderService
from conclave.security.service import SecurityService
from conclave.settings import Settings
from conclave.workspaces.checkout import CheckoutService
from conclave.workspaces.dispatch import TARGET_KIND as PROJECT_KIND
from conclave.workspaces.dispatch import ProjectDispatch
from conclave.workspaces.service import ProjectService, WorkspaceService
from workflows.client import connect
from workflows.codec import EncryptionCodec, data_converter
from workflows.engine import TemporalEngine


@dataclass
class Core:
    """The services and what they stand on, shared by one process."""

    settings: Settings
    db: Database
    bus: EventBus
    events: EventLog
    watchers: StreamWatchers
    engine: WorkflowEngine
    codec: EncryptionCodec | None
    dispatch: ConversationDispatch
    agents: AgentService
    circles: CircleService
    conversations: ConversationService
    memories: MemoryService
    project_dispatch: ProjectDispatch
    projects: ProjectService
    workspace_store: WorkspaceStore
    workspaces: WorkspaceService
    providers: ProviderService
    health: HealthService
    authenticator: Authenticator
    security: SecurityService
    _stack: AsyncExitStack

    async def close(self) -> None:
        """Close every connection, the last opened first."""
        await self._stack.aclose()


@dataclass
class WorkerParts:
    """What a worker runs besides the core."""

    llm: LLMActivities
    conversations: ConversationActivities
    git: GitActivities
    relay: Relay
    gateway: LiteLLMGateway

    def load(self) -> None:
        """Import litellm: seconds, so it is done before the worker asks for work."""
        self.gateway.load()


async def build_core(
    settings: Settings,
    *,
    engine: WorkflowEngine | None = None,
    name: str = "api",
    environment: Mapping[str, str] = os.environ,
    guard: OutgoingGuard | None = None,
    git_protocols: Collection[str] = ("https",),
) -> Core:
    """Build the services. Nothing needs to be reachable yet but what `name` says to logs.

    A guard of another kind, and other transports for git, are for tests.
    """
    stack = AsyncExitStack()
    keys = keyring(settings)
    db = Database.connect(settings.sqlalchemy_url, pool_size=settings.database_pool_size)
    stack.push_async_callback(db.close)
    bus = await _bus(settings, name, stack)
    if engine is None:
        engine = TemporalEngine(await temporal_client(settings, lazy=True))
    events = EventLog(bus)
    mailbox = Mailbox()
    watchers = StreamWatchers()
    dispatch = ConversationDispatch(db, mailbox, engine)
    conversations = ConversationService(
        db,
        events,
        mailbox,
        dispatch,
        watchers,
        advance_wait_seconds=settings.advance_wait_seconds,
    )
    guard = guard or OutgoingGuard(
        allow=parse_allow(settings.outgoing_allow), own_ports=own_ports(settings)
    )
    remotes = GuardedRemotes(guard, git_protocols, known_credentials(environment))
    store = workspace_store(settings, GitProgram(git_protocols), remotes)
    project_dispatch = ProjectDispatch(db, mailbox, engine)
    projects = ProjectService(db, events, AuditLog(), project_dispatch, remotes)
    return Core(
        settings=settings,
        db=db,
        bus=bus,
        events=events,
        watchers=watchers,
        engine=engine,
        codec=None if keys is None else EncryptionCodec(keys),
        dispatch=dispatch,
        agents=AgentService(db, events),
        circles=CircleService(db, events, CircleConversations(events, dispatch, conversations)),
        conversations=conversations,
        memories=MemoryService(db, events),
        project_dispatch=project_dispatch,
        projects=projects,
        workspace_store=store,
        workspaces=WorkspaceService(projects, store),
        providers=ProviderService(
            db, keys, guard, HttpProviderProbe(guard), PriceMapCatalogue(), environment, settings
        ),
        health=HealthService(db, engine, settings.conclave_data_dir),
        authenticator=CredentialAuthenticator(_revealed(settings.gateway_token)),
        security=SecurityService(),
        _stack=stack,
    )


def build_worker_parts(core: Core) -> WorkerParts:
    """Build what a worker runs on top of the core."""
    mailbox = Mailbox()
    gateway = LiteLLMGateway()
    turns = TurnService(
        core.db,
        core.events,
        mailbox,
        core.bus,
        RoutingGateway(gateway, DemoGateway()),
        core.providers,
    )
    return WorkerParts(
        llm=LLMActivities(turns),
        conversations=ConversationActivities(ConversationRecord(core.db, core.events, mailbox)),
        git=GitActivities(CheckoutService(core.db, core.events, core.workspace_store)),
        relay=Relay(
            core.db,
            mailbox,
            {TARGET_KIND: core.dispatch.deliver, PROJECT_KIND: core.project_dispatch.deliver},
        ),
        gateway=gateway,
    )


def workspace_store(settings: Settings, git: GitProgram, remotes: GuardedRemotes) -> DirectoryStore:
    """Return the workspaces below the data directory."""
    root = settings.conclave_data_dir / "workspaces"
    return DirectoryStore(root, lambda home: GitRepository(home, git, remotes))


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def keyring(settings: Settings) -> Keyring | None:
    """Return the keys of ENCRYPTION_KEY, None where it is not set."""
    if settings.encryption_key is None:
        return None
    return Keyring.parse(settings.encryption_key.get_secret_value())


async def temporal_client(settings: Settings, *, lazy: bool = False) -> Client:
    """Connect as every process does: same converter, same codec."""
    return await connect(
        settings.temporal_address,
        settings.temporal_namespace,
        data_converter(keyring(settings)),
        lazy=lazy,
    )


def own_ports(settings: Settings) -> frozenset[int]:
    """Return the ports of this product, which nothing an agent supplies may reach."""
    ports = {settings.api_port}
    for address in (settings.temporal_address, settings.temporal_ui_url or ""):
        _, _, port = address.rstrip("/").rpartition(":")
        if port.isdigit():
            ports.add(int(port))
    return frozenset(ports)


async def _bus(settings: Settings, name: str, stack: AsyncExitStack) -> EventBus:
    if settings.redis_url is not None:
        from conclave.adapters.bus.redis import RedisBus

        bus = RedisBus(settings.redis_url.get_secret_value(), name)
    else:
        bus = PostgresBus(settings.database_url, name)
    bus.start()
    stack.push_async_callback(bus.close)
    return bus
