"""The composition root: the one place where adapters are built and services get them.

The API and the worker alone use it. litellm is loaded by `WorkerParts.load` only, so that an API
process never carries it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pydantic import SecretStr
from temporalio.client import Client

from activities.approvals import ApprovalActivities
from activities.conversations import ConversationActivities
from activities.git import GitActivities
from activities.llm import LLMActivities
from activities.tools import ToolActivities
from activities.upkeep import UpkeepActivities
from conclave.adapters.bus.postgres import PostgresBus
from conclave.adapters.bus.probe import RedisProbe
from conclave.adapters.bus.watchers import StreamWatchers
from conclave.adapters.git.program import GitProgram
from conclave.adapters.git.remotes import GuardedRemotes, known_credentials
from conclave.adapters.git.repository import GitRepository
from conclave.adapters.llm.catalogue import PriceMapCatalogue
from conclave.adapters.llm.demo import DemoGateway
from conclave.adapters.llm.gateway import LiteLLMGateway
from conclave.adapters.llm.probe import HttpProviderProbe
from conclave.adapters.llm.routing import RoutingGateway
from conclave.adapters.mail.probe import SmtpProbe
from conclave.adapters.net.guard import OutgoingGuard
from conclave.adapters.net.urls import Endpoint, endpoints_of, parse_allow
from conclave.adapters.net.web import GuardedWeb
from conclave.adapters.sandbox.host import HostSandbox
from conclave.adapters.store.probe import store_probe
from conclave.adapters.workspace.store import DirectoryStore
from conclave.agents.assistant import AssistantService
from conclave.agents.service import AgentService
from conclave.approvals.dispatch import TARGET_KIND as APPROVAL_TARGET
from conclave.approvals.dispatch import ApprovalDispatch
from conclave.approvals.service import ApprovalService
from conclave.audit.sealer import AuditSealer
from conclave.audit.service import AuditService
from conclave.auditing import AuditLog
from conclave.circles.service import CircleService
from conclave.configuration import sealed as configuration_sealed
from conclave.configuration.application import ApplicationService
from conclave.configuration.health import ComponentHealthService, KnownProbe
from conclave.configuration.plain import PlainSettings
from conclave.configuration.service import ConfigurationService
from conclave.conversations.chats import ChatService
from conclave.conversations.compaction import CompactionService
from conclave.conversations.control import CircleConversations
from conclave.conversations.dispatch import TARGET_KIND as CONVERSATION_TARGET
from conclave.conversations.dispatch import ConversationDispatch
from conclave.conversations.model_choice import ModelChooser
from conclave.conversations.record import ConversationRecord
from conclave.conversations.service import ConversationService
from conclave.conversations.turns import TurnService
from conclave.crypto import KeyFile, Keyring
from conclave.db import Database
from conclave.events import EventLog
from conclave.health.service import HealthService
from conclave.identity import sealed as identity_sealed
from conclave.identity.api_keys import ApiKeyHasher, ApiKeyService
from conclave.identity.assembly import Identity, build_identity
from conclave.identity.passwords import Argon2Cost
from conclave.mailbox import Mailbox
from conclave.memories.service import MemoryService
from conclave.outbox.relay import Relay
from conclave.ports.engine import Chore, WorkflowEngine
from conclave.ports.events import EventBus
from conclave.ports.identity import Authenticator, SecurityPolicy
from conclave.ports.models import Compaction, ProfileDirectory
from conclave.ports.secrets import SecretReferences
from conclave.ports.tools import Sandbox, SandboxConfigStore, Toolbox, ToolDesk
from conclave.ports.workspaces import WorkspaceStore
from conclave.profiles import repository as profile_rows
from conclave.profiles.service import ProfileService
from conclave.providers import repository as provider_rows
from conclave.providers.choice import DefaultModel
from conclave.providers.home import ProviderSettingHome
from conclave.providers.service import ProviderService
from conclave.resealing import SealedPlace
from conclave.secrets import repository as secret_rows
from conclave.secrets.notices import ExpiryNotices
from conclave.secrets.references import VaultReferences
from conclave.secrets.service import SecretService
from conclave.security.home import SecuritySettingHome
from conclave.security.service import SecurityService
from conclave.settings import AuthMode, Settings
from conclave.tools.builtin.assembly import default_toolbox
from conclave.tools.desk import ToolDeskService
from conclave.tools.permissions import PermissionService
from conclave.tools.sandboxing import SandboxConfigService
from conclave.tools.service import ToolService
from conclave.workspaces.checkout import CheckoutService
from conclave.workspaces.dispatch import TARGET_KIND as PROJECT_TARGET
from conclave.workspaces.dispatch import ProjectDispatch
from conclave.workspaces.service import ProjectService, WorkspaceService
from schema.payloads.upkeep import ChoreName
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
    keys: Keyring | None
    codec: EncryptionCodec | None
    dispatch: ConversationDispatch
    audit: AuditService
    agents: AgentService
    circles: CircleService
    conversations: ConversationService
    chats: ChatService
    profiles: ProfileService
    models: ModelChooser
    compaction: Compaction
    memories: MemoryService
    project_dispatch: ProjectDispatch
    projects: ProjectService
    workspace_store: WorkspaceStore
    workspaces: WorkspaceService
    providers: ProviderService
    health: HealthService
    authenticator: Authenticator
    api_keys: ApiKeyService
    identity: Identity
    security: SecurityService
    permissions: PermissionService
    approvals: ApprovalService
    approval_dispatch: ApprovalDispatch
    tools: ToolService
    tool_desk: ToolDesk
    guard: OutgoingGuard
    configuration: ConfigurationService
    application: ApplicationService
    components: ComponentHealthService
    secrets: SecretService
    references: SecretReferences
    expiry_notices: ExpiryNotices
    sandbox: Sandbox
    sandbox_config: SandboxConfigStore
    _stack: AsyncExitStack

    async def close(self) -> None:
        """Close every connection, the last opened first."""
        await self._stack.aclose()


@dataclass
class WorkerParts:
    """What a worker runs besides the core."""

    llm: LLMActivities
    conversations: ConversationActivities
    approvals: ApprovalActivities
    tools: ToolActivities
    upkeep: UpkeepActivities
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
    toolbox: Toolbox | None = None,
    password_cost: Argon2Cost | None = None,
    guard: OutgoingGuard | None = None,
    profiles: ProfileDirectory | None = None,
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
    audit = AuditLog()
    mailbox = Mailbox()
    watchers = StreamWatchers()
    dispatch = ConversationDispatch(db, mailbox, engine)
    conversations = ConversationService(
        db,
        events,
        audit,
        mailbox,
        dispatch,
        watchers,
        advance_wait_seconds=settings.advance_wait_seconds,
    )
    security = SecurityService(db, audit, settings.auth_mode)
    guard = guard or outgoing_guard(settings, security, environment)
    references = VaultReferences(db, keys)
    catalogue = PriceMapCatalogue()
    providers = ProviderService(
        db,
        audit,
        keys,
        guard,
        HttpProviderProbe(guard),
        catalogue,
        environment,
        references,
    )
    plain = PlainSettings(db, keys, settings)
    own_profiles = ProfileService(db, audit, keys, guard, references, plain)
    models = ModelChooser(providers, catalogue, profiles or own_profiles)
    agents = AgentService(db, events, audit)
    configuration = ConfigurationService(
        db, plain, ProviderSettingHome(providers), SecuritySettingHome(security), audit
    )
    api_keys = ApiKeyService(db, audit, ApiKeyHasher(keys))
    identity = build_identity(settings, db, security, keys, api_keys=api_keys, cost=password_cost)
    stack.callback(identity.close)
    remotes = GuardedRemotes(guard, git_protocols, known_credentials(environment))
    store = workspace_store(settings, GitProgram(git_protocols), remotes)
    project_dispatch = ProjectDispatch(db, mailbox, engine)
    projects = ProjectService(db, events, audit, project_dispatch, remotes)
    workspaces = WorkspaceService(projects, store)
    sandbox = HostSandbox(
        hidden=[settings.conclave_data_dir], unsandboxed=settings.sandbox_unsandboxed
    )
    rules = SandboxConfigService(db, audit, sandbox)
    tools_there = toolbox or default_toolbox(
        workspaces=workspaces,
        sandbox=sandbox,
        rules=rules,
        web=GuardedWeb(guard),
        references=references,
        secret_hosts=settings.tool_secret_hosts,
    )
    permissions = PermissionService(db, audit, lambda: [tool.name for tool in tools_there.all()])
    approval_dispatch = ApprovalDispatch(db, mailbox, engine)
    approvals = ApprovalService(db, events, audit, approval_dispatch, security)
    tools = ToolService(db, events, tools_there, permissions)
    approvals.subject = tools
    return Core(
        settings=settings,
        db=db,
        bus=bus,
        events=events,
        watchers=watchers,
        engine=engine,
        keys=keys,
        codec=None if keys is None else EncryptionCodec(keys),
        dispatch=dispatch,
        project_dispatch=project_dispatch,
        projects=projects,
        workspace_store=store,
        workspaces=workspaces,
        audit=AuditService(db),
        agents=agents,
        circles=CircleService(
            db, events, audit, CircleConversations(events, dispatch, conversations)
        ),
        conversations=conversations,
        chats=ChatService(
            db,
            events,
            audit,
            mailbox,
            conversations,
            AssistantService(agents, DefaultModel(providers, plain)),
            own_profiles,
        ),
        profiles=own_profiles,
        models=models,
        compaction=CompactionService(db, mailbox, conversations, models),
        memories=MemoryService(db, events, audit),
        providers=providers,
        health=HealthService(db, engine, settings.conclave_data_dir),
        authenticator=identity.authenticator,
        identity=identity,
        api_keys=api_keys,
        security=security,
        guard=guard,
        configuration=configuration,
        application=ApplicationService(db, plain, configuration, settings),
        components=ComponentHealthService(
            db, engine, configuration, SmtpProbe(), _probes(settings, environment)
        ),
        secrets=SecretService(db, keys, audit, users=[providers, own_profiles]),
        references=references,
        expiry_notices=ExpiryNotices(db, events),
        permissions=permissions,
        approvals=approvals,
        approval_dispatch=approval_dispatch,
        tools=tools,
        tool_desk=ToolDeskService(tools_there, permissions, approvals, events),
        sandbox=sandbox,
        sandbox_config=rules,
        _stack=stack,
    )


def build_worker_parts(core: Core) -> WorkerParts:
    """Build what a worker runs on top of the core."""
    mailbox = Mailbox()
    gateway = LiteLLMGateway(core.guard)
    turns = TurnService(
        core.db,
        core.events,
        mailbox,
        core.bus,
        RoutingGateway(gateway, DemoGateway()),
        core.models,
        core.tool_desk,
    )
    record = ConversationRecord(core.db, core.events, mailbox, core.tool_desk)
    targets = {
        CONVERSATION_TARGET: core.dispatch.deliver,
        APPROVAL_TARGET: core.approval_dispatch.deliver,
        PROJECT_TARGET: core.project_dispatch.deliver,
    }
    return WorkerParts(
        llm=LLMActivities(turns),
        conversations=ConversationActivities(record),
        approvals=ApprovalActivities(
            core.approvals, takes_signals=core.settings.auth_mode is AuthMode.LOCAL
        ),
        tools=ToolActivities(core.tools),
        upkeep=UpkeepActivities(chores_of(core)),
        git=GitActivities(CheckoutService(core.db, core.events, core.workspace_store)),
        relay=Relay(core.db, mailbox, targets),
        gateway=gateway,
    )


def _probes(settings: Settings, environment: Mapping[str, str]) -> dict[str, KnownProbe | None]:
    """Return a probe for each part that is set up outside the database, None for the others."""
    redis = store = None
    if settings.redis_url is not None:
        redis = KnownProbe("redis", RedisProbe(settings.redis_url.get_secret_value()))
    if settings.object_store_url:
        store = KnownProbe(*store_probe(settings.object_store_url, environment))
    return {"redis": redis, "storage": store}


def chores_of(core: Core) -> dict[ChoreName, Chore]:
    """Return who does what upkeep asks for (`workflows.schedules` says when)."""
    return {
        ChoreName.SEAL_AUDIT_LOG: AuditSealer(core.db, core.keys),
        ChoreName.PURGE_SESSIONS: core.identity.upkeep,
        ChoreName.ANNOUNCE_EXPIRING_SECRETS: core.expiry_notices,
    }


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
    file = settings.conclave_secrets_file
    return Keyring.parse(
        settings.encryption_key.get_secret_value(), None if file is None else KeyFile(file)
    )


def sealed_places() -> Sequence[SealedPlace]:
    """Return every place where something is sealed: what `conclave keys rotate` seals again."""
    return (
        *secret_rows.SEALED_PLACES,
        *provider_rows.SEALED_PLACES,
        *profile_rows.SEALED_PLACES,
        *identity_sealed.SEALED_PLACES,
        *configuration_sealed.SEALED_PLACES,
    )


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


def own_endpoints(settings: Settings, environment: Mapping[str, str]) -> frozenset[Endpoint]:
    """Return what this product stands on, which nothing an agent supplies may reach."""
    found = (
        endpoints_of(settings.database_url, 5432)
        | endpoints_of(_revealed(settings.redis_url), 6379)
        | endpoints_of(settings.temporal_address, 7233)
        | endpoints_of(settings.temporal_ui_url)
    )
    if (settings.object_store_url or "").startswith(("http://", "https://")):
        found |= endpoints_of(settings.object_store_url)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        found |= endpoints_of(environment.get(name))
    return found


def outgoing_guard(
    settings: Settings, security: SecurityPolicy, environment: Mapping[str, str]
) -> OutgoingGuard:
    """Return the one guard of outgoing URLs. Raises ValueError for a list it cannot honour."""

    async def private_webhooks() -> bool:
        return (await security.current()).webhooks.allow_private_addresses

    return OutgoingGuard(
        allow=parse_allow(settings.outgoing_allow),
        own_ports=own_ports(settings),
        own_endpoints=own_endpoints(settings, environment),
        private_webhooks=private_webhooks,
    )


async def _bus(settings: Settings, name: str, stack: AsyncExitStack) -> EventBus:
    if settings.redis_url is not None:
        from conclave.adapters.bus.redis import RedisBus

        bus = RedisBus(settings.redis_url.get_secret_value(), name)
    else:
        bus = PostgresBus(settings.database_url, name)
    bus.start()
    stack.push_async_callback(bus.close)
    return bus
