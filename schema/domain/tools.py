"""Tools, what a call of one may do, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import Field, JsonValue

from schema.domain.agents import AgentConfig, RiskRules
from schema.domain.base import Shape
from schema.domain.conversations import ConversationKind
from schema.domain.permissions import Autonomy, Permissions

TASK_TOOLS = ("report_progress", "publish_file")
"""What whoever works on a task may always do."""


class Effect(StrEnum):
    """What happens when a call runs twice: nothing; the same; something else.

    After a crash `read` and `idempotent` run again; `once` never does: its outcome is unknown.
    """

    READ = "read"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


class ToolCategory(StrEnum):
    """What a tool is about; policy speaks of these."""

    FILES = "files"
    SEARCH = "search"
    GIT = "git"
    SHELL = "shell"
    CODE = "code"
    HTTP = "http"
    TASKS = "tasks"
    """What reports on a task: offered to whoever works on one, and never asked about."""


class Tool(Shape):
    """A tool that can be put before a model; `parameters` is a JSON Schema of an object."""

    name: str
    description: str
    parameters: dict[str, JsonValue]
    effect: Effect
    category: ToolCategory
    is_reading: bool = False
    """Changes nothing and sends nothing out: what read-only modes allow."""
    is_dangerous: bool = False
    """Shell, code, deleting, sending: what cautious agents ask for first."""
    is_quick: bool = False
    """Works on files of the workspace alone: no process, no network, nothing to wait for."""
    timeout_seconds: int = Field(default=30, ge=1, le=3600)

    @property
    def may_be_always_allowed(self) -> bool:
        """Never shell, code or what cannot be repeated: each such call is looked at."""
        risky = {ToolCategory.SHELL, ToolCategory.CODE}
        return self.category not in risky and self.effect is not Effect.ONCE

    @property
    def is_glance(self) -> bool:
        """Quick, and without effect: noted once, when it is over."""
        return self.is_quick and self.effect is Effect.READ


class ToolVerdict(StrEnum):
    """What policy says of a call."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class ExecutionStatus(StrEnum):
    """Where a tool call stands. The last five are final."""

    WAITING = "waiting"
    """For an approval."""
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DENIED = "denied"
    UNKNOWN = "unknown"
    """Cut while it ran, and not to be repeated."""
    CANCELLED = "cancelled"


FINAL = frozenset(
    {
        ExecutionStatus.DONE,
        ExecutionStatus.FAILED,
        ExecutionStatus.DENIED,
        ExecutionStatus.UNKNOWN,
        ExecutionStatus.CANCELLED,
    }
)


class ToolOutcome(Shape):
    """What a tool answered, in words the model can act on; errors are answers too."""

    content: str
    is_error: bool = False


class ToolPlace(Shape):
    """Where a call runs: whose turn it is, and the workspace that is its."""

    conversation_id: int
    agent_id: int
    project_id: int | None = None
    """None: a scratch workspace of the conversation's own."""
    most_deleted_mb: float | None = None
    """How much one call may delete; None: any amount."""
    task_id: int | None = None
    """The task whose transcript the conversation is."""


class StepPlace(Shape):
    """Which step of which turn: a reply, and so its calls, are unique by it."""

    conversation_id: int
    execution: int
    turn: int
    step: int


class ToolAsker(Shape):
    """Whose turn asks for tools, as far as policy looks at it."""

    conversation_id: int
    kind: ConversationKind
    owner: str
    circle_id: int | None
    agent_id: int
    agent_name: str
    named_tools: tuple[str, ...] = ()
    """The tools the agent's config names; chats offer every tool besides."""
    autonomy: Autonomy = Autonomy.CAUTIOUS
    blacklist: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    risk_rules: RiskRules = RiskRules()
    circle_allows_tools: bool = True
    tightened: Permissions | None = None
    """What the chat itself tightens of the rules."""
    task_id: int | None = None
    """The task that is worked on."""

    @classmethod
    def of(
        cls,
        *,
        conversation_id: int,
        kind: str,
        owner: str,
        circle_id: int | None,
        circle_config: Mapping[str, JsonValue] | None,
        agent_id: int,
        agent_name: str,
        config: AgentConfig,
        risk_rules: RiskRules | None,
        tightened: Mapping[str, JsonValue] | None,
        task_id: int | None = None,
        required_tools: Sequence[str] | None = None,
    ) -> Self:
        """Read an asker from what the record says of conversation, circle, agent and task.

        A task's run sees the tools that the task requires, or all of the agent's where it names
        none, and those that report on it.
        """
        return cls(
            conversation_id=conversation_id,
            kind=ConversationKind(kind),
            owner=owner,
            circle_id=circle_id,
            agent_id=agent_id,
            agent_name=agent_name,
            named_tools=(
                tuple(config.tools)
                if task_id is None
                else (*(required_tools or config.tools), *TASK_TOOLS)
            ),
            task_id=task_id,
            autonomy=config.autonomy,
            blacklist=config.tool_blacklist,
            disabled=config.disabled_tools,
            risk_rules=risk_rules or RiskRules(),
            circle_allows_tools=(circle_config or {}).get("allow_tools") is not False,
            tightened=None if tightened is None else Permissions.model_validate(tightened),
        )

    @property
    def may_have_tools(self) -> bool:
        """Whether any tool can be offered at all: most turns of circles name none."""
        return self.kind is ConversationKind.CHAT or bool(self.named_tools)

    @property
    def private_owner(self) -> str | None:
        """Who alone may see it, None where everybody may."""
        return self.owner if self.kind.is_private else None


class ToolExecution(Shape):
    """One line of the ledger. `arguments` are those that run; edited ones replace the model's."""

    id: int
    conversation_id: int
    execution: int
    turn: int
    step: int
    position: int
    """Place among the calls of its reply, from 0."""
    tool_use_id: str
    tool_name: str
    arguments: dict[str, JsonValue]
    effect: Effect
    verdict: ToolVerdict
    rule: str
    """The rule that made the verdict."""
    binding: str
    """Hash of what was judged: tool, its schema, arguments, policy."""
    status: ExecutionStatus
    approval_id: int | None
    agent_id: int | None
    attempt: int
    result: str | None
    is_error: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
