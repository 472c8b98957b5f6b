"""What a worker runs on top of the core."""

from __future__ import annotations

from dataclasses import dataclass

from activities.approvals import ApprovalActivities
from activities.conversations import ConversationActivities
from activities.git import GitActivities
from activities.llm import LLMActivities
from activities.pipelines import PipelineActivities
from activities.tasks import TaskActivities
from activities.tools import ToolActivities
from activities.triggers import TriggerActivities
from activities.upkeep import UpkeepActivities
from conclave.adapters.llm.demo import DemoGateway
from conclave.adapters.llm.gateway import LiteLLMGateway
from conclave.adapters.llm.routing import RoutingGateway
from conclave.approvals.dispatch import TARGET_KIND as APPROVAL_TARGET
from conclave.audit.sealer import AuditSealer
from conclave.container import Core
from conclave.conversations.dispatch import TARGET_KIND as CONVERSATION_TARGET
from conclave.conversations.leftovers import LeftCalls
from conclave.conversations.record import ConversationRecord
from conclave.conversations.turns import TurnService
from conclave.costs.upkeep import BudgetUpkeep
from conclave.files.upkeep import FileUpkeep
from conclave.mailbox import Mailbox
from conclave.outbox.relay import Relay
from conclave.pipelines.dispatch import TARGET_KIND as PIPELINE_TARGET
from conclave.ports.engine import Chore
from conclave.settings import AuthMode
from conclave.tasks.wakes import DISPATCH_TARGET, TASK_TARGET
from conclave.triggers.consumer import EventConsumer
from conclave.triggers.dispatch import FIRING_TARGET, RHYTHM_TARGET, TRIGGER_TARGET
from conclave.workspaces.checkout import CheckoutService
from conclave.workspaces.dispatch import TARGET_KIND as PROJECT_TARGET
from conclave.workspaces.scratch import ScratchRemoval
from conclave.workspaces.worktrees import WorktreeRemoval
from schema.payloads.upkeep import ChoreName


@dataclass
class WorkerParts:
    """What a worker runs besides the core."""

    llm: LLMActivities
    conversations: ConversationActivities
    approvals: ApprovalActivities
    tools: ToolActivities
    upkeep: UpkeepActivities
    git: GitActivities
    tasks: TaskActivities
    pipelines: PipelineActivities
    triggers: TriggerActivities
    consumer: EventConsumer
    relay: Relay
    gateway: LiteLLMGateway

    def load(self) -> None:
        """Import litellm: seconds, so it is done before the worker asks for work."""
        self.gateway.load()


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
        core.workforce.task_turns,
        core.breakers,
        core.budgets,
    )
    record = ConversationRecord(core.db, core.events, mailbox, core.tool_desk)
    targets = {
        CONVERSATION_TARGET: core.dispatch.deliver,
        APPROVAL_TARGET: core.approval_dispatch.deliver,
        PROJECT_TARGET: core.project_dispatch.deliver,
        TASK_TARGET: core.workforce.task_wakes.deliver,
        DISPATCH_TARGET: core.workforce.dispatcher.hand_out,
        PIPELINE_TARGET: core.pipelines.dispatch.deliver,
        TRIGGER_TARGET: core.trigger_dispatch.deliver_schedule,
        FIRING_TARGET: core.trigger_dispatch.deliver_firing,
        RHYTHM_TARGET: core.trigger_dispatch.deliver_rhythm,
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
        tasks=TaskActivities(core.workforce.task_attempts),
        pipelines=PipelineActivities(core.pipelines.record),
        triggers=TriggerActivities(core.firings, core.thresholds),
        consumer=EventConsumer(core.db, core.events, core.bus, core.trigger_dispatch),
        relay=Relay(core.db, mailbox, targets),
        gateway=gateway,
    )


def chores_of(core: Core) -> dict[ChoreName, Chore]:
    """Return who does what upkeep asks for (`workflows.schedules` says when)."""
    return {
        ChoreName.SEAL_AUDIT_LOG: AuditSealer(core.db, core.keys),
        ChoreName.PURGE_SESSIONS: core.identity.upkeep,
        ChoreName.ANNOUNCE_EXPIRING_SECRETS: core.expiry_notices,
        ChoreName.TELL_OVERDUE_TASKS: core.workforce.overdue_tasks,
        ChoreName.REMOVE_SCRATCH_WORKSPACES: ScratchRemoval(core.db, core.workspace_store),
        ChoreName.REMOVE_TASK_WORKTREES: WorktreeRemoval(core.db, core.workspace_store),
        ChoreName.REMOVE_STRAY_FILES: FileUpkeep(core.db, core.files, core.blobs, core.plain),
        ChoreName.SETTLE_LEFT_CALLS: LeftCalls(core.db),
        ChoreName.LOOK_AFTER_BUDGETS: BudgetUpkeep(core.db, core.budgets),
    }
