"""The composition root: the one place where adapters are built and services get them.

The API and the worker alone use it. litellm is loaded by `WorkerParts.load` only, so that an API
process never carries it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from temporalio.client import Client

from conclave import failpoints
from conclave.adapters.bus.postgres import PostgresBus
from conclave.adapters.bus.probe import RedisProbe
from conclave.adapters.bus.watchers import StreamWatchers
from conclave.adapters.git.branches import BranchedRepository
from conclave.adapters.git.program import GitProgram
from conclave.adapters.git.remotes import GuardedRemotes, known_credentials
from conclave.adapters.git.repository import GitRepository
from conclave.adapters.llm.catalogue import PriceMapCatalogue
from conclave.adapters.llm.probe import HttpProviderProbe
from conclave.adapters.mail.probe import SmtpProbe
from conclave.adapters.net.guard import OutgoingGuard
from conclave.adapters.net.setup import outgoing_guard
from conclave.adapters.net.web import GuardedWeb
from conclave.adapters.sandbox.host import HostSandbox
from conclave.adapters.store.blobs import blob_store
from conclave.adapters.store.probe import store_probe
from conclave.adapters.workspace.store import DirectoryStore
from conclave.agents.assistant import AssistantService
from conclave.agents.capabilities import CapabilityService
from conclave.agents.roster import AgentRoster
from conclave.agents.service import AgentService
from conclave.agents.work import Work
from conclave.approvals.budgets import BudgetIncreases
from conclave.approvals.dispatch import ApprovalDispatch
from conclave.approvals.service import ApprovalService
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
from conclave.conversations.control import CircleConversations, ConversationTurns
from conclave.conversations.dispatch import ConversationDispatch
from conclave.conversations.model_choice import ModelChooser
from conclave.conversations.service import ConversationService
from conclave.conversations.starting import StoredStart
from conclave.crypto import KeyFile, Keyring
from conclave.db import Database
from conclave.errands import Errands
from conclave.events import EventLog
from conclave.files.service import FileService
from conclave.files.signing import DownloadSigner
from conclave.ground import Ground
from conclave.health.service import HealthService
from conclave.identity import sealed as identity_sealed
from conclave.identity.api_keys import ApiKeyHasher, ApiKeyService
from conclave.identity.assembly import Identity, build_identity
from conclave.identity.passwords import Argon2Cost
from conclave.mailbox import Mailbox
from conclave.memories.service import MemoryService
from conclave.ports.blobs import BlobStore
from conclave.ports.engine import WorkflowEngine
from conclave.ports.events import EventBus
from conclave.ports.identity import Authenticator
from conclave.ports.models import Compaction, ProfileDirectory
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
from conclave.settings import Settings
from conclave.tasks.progress import TaskProgress
from conclave.tools.builtin.assembly import default_toolbox
from conclave.tools.desk import ToolDeskService
from conclave.tools.handoffs import Handoffs
from conclave.tools.permissions import PermissionService
from conclave.tools.sandboxing import SandboxConfigService
from conclave.tools.service import ToolService
from conclave.triggers import sealing as trigger_sealed
from conclave.workforce import Workforce, build_workforce
from conclave.workspaces.dispatch import ProjectDispatch
from conclave.workspaces.service import ProjectService, WorkspaceService
from schema.domain.approvals import BUDGET_INCREASE, TOOL_CALL
from workflows.client import connect
from workflows.codec import EncryptionCodec, data_converter
from workflows.engine import TemporalEngine


@dataclass(frozen=True)
class _Models:
    """Which models there are, and who is answered by which."""

    providers: ProviderService
    profiles: ProfileService
    chooser: ModelChooser


@dataclass(frozen=True)
class _Talks:
    """Who talks with whom."""

    watchers: StreamWatchers
    dispatch: ConversationDispatch
    conversations: ConversationService
    agents: AgentService
    capabilities: CapabilityService
    roster: AgentRoster
    circles: CircleService
    chats: ChatService
    compaction: Compaction
    starter: StoredStart


@dataclass(frozen=True)
class _Deeds:
    """What agents do, where, and who allows it."""

    project_dispatch: ProjectDispatch
    projects: ProjectService
    workspace_store: WorkspaceStore
    workspaces: WorkspaceService
    sandbox: Sandbox
    sandbox_config: SandboxConfigStore
    permissions: PermissionService
    approvals: ApprovalService
    approval_dispatch: ApprovalDispatch
    tools: ToolService
    tool_desk: ToolDesk
    files: FileService
    blobs: BlobStore


@dataclass(frozen=True)
class _Rules:
    """Who may call, and the settings of the whole."""

    identity: Identity
    api_keys: ApiKeyService
    configuration: ConfigurationService
    application: ApplicationService
    components: ComponentHealthService


class Core:
    """The services and what they stand on, shared by one process."""

    def __init__(
        self,
        ground: Ground,
        models: _Models,
        talks: _Talks,
        deeds: _Deeds,
        rules: _Rules,
        workforce: Workforce,
        stack: AsyncExitStack,
    ) -> None:
        self.settings = ground.settings
        self.db, self.bus, self.engine = ground.db, ground.bus, ground.engine
        self.keys = ground.keys
        self.codec = None if ground.keys is None else EncryptionCodec(ground.keys)
        self.events, self.errands = ground.events, ground.errands
        self.security, self.guard = ground.security, ground.guard
        self.references, self.plain = ground.references, ground.plain
        self.audit = AuditService(ground.db)
        self.health = HealthService(ground.db, ground.engine, ground.settings.conclave_data_dir)
        self.memories = MemoryService(ground.db, ground.events, ground.audit)
        self.secrets = SecretService(
            ground.db,
            ground.keys,
            ground.audit,
            users=[models.providers, models.profiles, workforce.triggers.service],
        )
        self.expiry_notices = ExpiryNotices(ground.db, ground.events)
        self.providers, self.profiles = models.providers, models.profiles
        self.models = models.chooser
        self.watchers, self.dispatch = talks.watchers, talks.dispatch
        self.conversations, self.chats = talks.conversations, talks.chats
        self.agents, self.circles = talks.agents, talks.circles
        self.capabilities = talks.capabilities
        self.roster = talks.roster
        self.compaction = talks.compaction
        self.project_dispatch, self.projects = deeds.project_dispatch, deeds.projects
        self.workspace_store, self.workspaces = deeds.workspace_store, deeds.workspaces
        self.sandbox, self.sandbox_config = deeds.sandbox, deeds.sandbox_config
        self.permissions = deeds.permissions
        self.approvals, self.approval_dispatch = deeds.approvals, deeds.approval_dispatch
        self.tools, self.tool_desk = deeds.tools, deeds.tool_desk
        self.files, self.blobs = deeds.files, deeds.blobs
        self.identity, self.api_keys = rules.identity, rules.api_keys
        self.authenticator: Authenticator = rules.identity.authenticator
        self.configuration, self.application = rules.configuration, rules.application
        self.components = rules.components
        self.workforce = workforce
        self.tasks, self.dead_letters = workforce.tasks, workforce.dead_letters
        self.notifications = workforce.notifications
        self.agent_record = workforce.agent_record
        self.analytics = workforce.analytics
        self.breakers, self.breaker_desk = workforce.breakers, workforce.breaker_desk
        self.pipelines = workforce.pipelines
        self.budgets, self.costs = workforce.budgets, workforce.costs
        triggers = workforce.triggers
        self.triggers, self.trigger_dispatch = triggers.service, triggers.dispatch
        self.ingress, self.firings = triggers.ingress, triggers.firings
        self.thresholds = triggers.thresholds
        self._stack = stack

    async def close(self) -> None:
        """Close every connection, the last opened first."""
        await self._stack.aclose()


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
    failpoints.arm(settings.conclave_failpoints)
    stack = AsyncExitStack()
    keys = keyring(settings)
    db = Database.connect(settings.sqlalchemy_url, pool_size=settings.database_pool_size)
    stack.push_async_callback(db.close)
    errands = Errands()
    stack.push_async_callback(errands.finish)
    audit = AuditLog()
    security = SecurityService(db, audit, settings.auth_mode)
    bus = await _bus(settings, name, stack)
    ground = Ground(
        settings=settings,
        environment=environment,
        db=db,
        bus=bus,
        engine=engine or TemporalEngine(await temporal_client(settings, lazy=True)),
        keys=keys,
        events=EventLog(bus),
        audit=audit,
        mailbox=Mailbox(),
        errands=errands,
        security=security,
        guard=guard or outgoing_guard(settings, security, environment),
        references=VaultReferences(db, keys),
        plain=PlainSettings(db, keys, settings),
    )
    models = _build_models(ground, profiles)
    talks = _build_talks(ground, models)
    deeds = _build_deeds(ground, toolbox, git_protocols)
    rules = _build_rules(ground, models, password_cost)
    stack.callback(rules.identity.close)
    talks.conversations.approvals = talks.agents.approvals = deeds.approvals
    workforce = build_workforce(ground, deeds.tool_desk, deeds.files, talks.starter)
    talks.agents.work.tasks = workforce.tasks
    deeds.approvals.tasks = workforce.tasks
    deeds.approvals.notifier = workforce.notifications
    deeds.approvals.subjects[BUDGET_INCREASE] = BudgetIncreases(workforce.budgets)
    workforce.endings.approvals = deeds.approvals
    stack.push_async_callback(workforce.breakers.close)
    return Core(ground, models, talks, deeds, rules, workforce, stack)


def _build_models(ground: Ground, profiles: ProfileDirectory | None) -> _Models:
    catalogue = PriceMapCatalogue()
    providers = ProviderService(
        ground.db,
        ground.audit,
        ground.keys,
        ground.guard,
        HttpProviderProbe(ground.guard),
        catalogue,
        ground.environment,
        ground.references,
    )
    own_profiles = ProfileService(
        ground.db, ground.audit, ground.keys, ground.guard, ground.references, ground.plain
    )
    chooser = ModelChooser(providers, catalogue, profiles or own_profiles)
    return _Models(providers, own_profiles, chooser)


def _build_talks(ground: Ground, models: _Models) -> _Talks:
    db, events, audit, mailbox = ground.db, ground.events, ground.audit, ground.mailbox
    watchers = StreamWatchers()
    dispatch = ConversationDispatch(db, mailbox, ground.errands, ground.engine)
    conversations = ConversationService(
        db,
        events,
        audit,
        mailbox,
        dispatch,
        watchers,
        advance_wait_seconds=ground.settings.advance_wait_seconds,
    )
    agents = AgentService(db, events, audit, Work(ConversationTurns(dispatch)))
    defaults = DefaultModel(models.providers, ground.plain)
    assistants = AssistantService(agents, defaults)
    control = CircleConversations(events, dispatch, conversations)
    return _Talks(
        watchers=watchers,
        dispatch=dispatch,
        conversations=conversations,
        agents=agents,
        capabilities=CapabilityService(db, events, audit, agents.work),
        roster=AgentRoster(db, agents, defaults, ground.plain),
        circles=CircleService(db, events, audit, control),
        chats=ChatService(db, events, audit, mailbox, conversations, assistants, models.profiles),
        compaction=CompactionService(db, mailbox, conversations, models.chooser),
        starter=StoredStart(events, dispatch, ground.errands),
    )


def _build_deeds(ground: Ground, toolbox: Toolbox | None, git_protocols: Collection[str]) -> _Deeds:
    settings, db, events, audit = ground.settings, ground.db, ground.events, ground.audit
    remotes = GuardedRemotes(ground.guard, git_protocols, known_credentials(ground.environment))
    git = GitProgram(git_protocols)
    store = DirectoryStore(
        settings.conclave_data_dir / "workspaces",
        lambda home: GitRepository(home, git, remotes),
        lambda home, source, branch: BranchedRepository(home, source, branch, git, remotes),
    )
    project_dispatch = ProjectDispatch(db, ground.mailbox, ground.errands, ground.engine)
    projects = ProjectService(db, events, audit, project_dispatch, remotes)
    workspaces = WorkspaceService(projects, store)
    sandbox = HostSandbox(
        hidden=[settings.conclave_data_dir], unsandboxed=settings.sandbox_unsandboxed
    )
    sandbox_config = SandboxConfigService(db, audit, sandbox)
    blobs = blob_store(settings.object_store_url, settings.conclave_data_dir, ground.environment)
    files = FileService(db, audit, blobs, ground.plain, DownloadSigner(ground.keys))
    box = toolbox or default_toolbox(
        workspaces=workspaces,
        sandbox=sandbox,
        rules=sandbox_config,
        web=GuardedWeb(ground.guard),
        references=ground.references,
        secret_hosts=settings.tool_secret_hosts,
        progress=TaskProgress(db, events),
        outputs=files,
    )
    permissions = PermissionService(db, audit, lambda: [tool.name for tool in box.all()])
    approval_dispatch = ApprovalDispatch(db, ground.mailbox, ground.errands, ground.engine)
    approvals = ApprovalService(db, events, audit, approval_dispatch, ground.security)
    handoffs = Handoffs()
    tools = ToolService(db, events, box, permissions, handoffs)
    approvals.subjects = {TOOL_CALL: tools}
    return _Deeds(
        project_dispatch=project_dispatch,
        projects=projects,
        workspace_store=store,
        workspaces=workspaces,
        sandbox=sandbox,
        sandbox_config=sandbox_config,
        permissions=permissions,
        approvals=approvals,
        approval_dispatch=approval_dispatch,
        tools=tools,
        tool_desk=ToolDeskService(box, permissions, approvals, events, handoffs),
        files=files,
        blobs=blobs,
    )


def _build_rules(ground: Ground, models: _Models, password_cost: Argon2Cost | None) -> _Rules:
    settings, db, audit, keys = ground.settings, ground.db, ground.audit, ground.keys
    configuration = ConfigurationService(
        db,
        ground.plain,
        ProviderSettingHome(models.providers),
        SecuritySettingHome(ground.security),
        audit,
    )
    probes = _probes(settings, ground.environment)
    api_keys = ApiKeyService(db, audit, ApiKeyHasher(keys))
    return _Rules(
        identity=build_identity(
            settings, db, ground.security, keys, api_keys=api_keys, cost=password_cost
        ),
        api_keys=api_keys,
        configuration=configuration,
        application=ApplicationService(db, ground.plain, configuration, settings),
        components=ComponentHealthService(db, ground.engine, configuration, SmtpProbe(), probes),
    )


def _probes(settings: Settings, environment: Mapping[str, str]) -> dict[str, KnownProbe | None]:
    """Return a probe for each part that is set up outside the database, None for the others."""
    redis = store = None
    if settings.redis_url is not None:
        redis = KnownProbe("redis", RedisProbe(settings.redis_url.get_secret_value()))
    if settings.object_store_url:
        store = KnownProbe(*store_probe(settings.object_store_url, environment))
    return {"redis": redis, "storage": store}


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
        *trigger_sealed.SEALED_PLACES,
    )


async def temporal_client(settings: Settings, *, lazy: bool = False) -> Client:
    """Connect as every process does: same converter, same codec."""
    return await connect(
        settings.temporal_address,
        settings.temporal_namespace,
        data_converter(keyring(settings)),
        lazy=lazy,
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
