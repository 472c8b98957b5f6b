"""The tools of agents, what they stand on, and the yes or no they wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import JsonValue

from conclave.db import Transaction
from schema.domain.approvals import Approval, ApprovalRequest
from schema.domain.llm import ToolCall, ToolSpec
from schema.domain.sandbox import SandboxCommand, SandboxConfig, SandboxResult, SandboxStatus
from schema.domain.tools import StepPlace, Tool, ToolAsker, ToolOutcome, ToolPlace
from schema.payloads.tools import ToolRef


class Toolbox(Protocol):
    """The tools there are, and how each is run."""

    def all(self) -> Sequence[Tool]:
        """Return every tool."""
        ...

    def get(self, name: str) -> Tool | None:
        """Return one by name."""
        ...

    async def run(
        self, tool: Tool, arguments: Mapping[str, JsonValue], place: ToolPlace
    ) -> ToolOutcome:
        """Run a call whose arguments fit the tool's schema.

        What the model can act on is an outcome, errors too. Raises a retryable `ConclaveError`
        where another try of the very same call may help.
        """
        ...


class ToolDesk(Protocol):
    """What a turn asks about tools, inside its own transactions."""

    async def offered(self, asker: ToolAsker) -> list[ToolSpec]:
        """Return what is put before the model. Costs no query as a rule."""
        ...

    async def record(
        self, tx: Transaction, asker: ToolAsker, place: StepPlace, calls: Sequence[ToolCall]
    ) -> list[ToolRef]:
        """Judge the calls of a reply and store them with it; what needs a yes is asked for."""
        ...

    async def refs(self, tx: Transaction, place: StepPlace) -> list[ToolRef]:
        """Return the calls that were stored with a step, as they stand."""
        ...

    async def cancel_open(self, tx: Transaction, conversation_id: int, reason: str) -> None:
        """Close every call of the conversation that is not over yet."""
        ...


class ApprovalDesk(Protocol):
    """Asks for a human's yes or no, inside the asking transaction."""

    async def request(self, tx: Transaction, wanted: ApprovalRequest) -> Approval:
        """Store a pending approval and tell of it.

        The caller has locked the conversation and the task that ask, in this order.
        """
        ...

    async def ask(self, tx: Transaction, wanted: ApprovalRequest) -> Approval:
        """The same for what nobody waits for in a workflow of its own: the approval gets one."""
        ...

    async def cancel_of(
        self,
        tx: Transaction,
        *,
        task_id: int | None = None,
        conversation_id: int | None = None,
        agent_id: int | None = None,
    ) -> int:
        """Cancel what is pending of any of these, which end in this transaction; return how many.

        The caller has locked the conversation and the task. With `task_id` that task hears
        nothing of it (`TaskDesk.approvals_changed`): it is ending.
        """
        ...


class ApprovalSubject(Protocol):
    """What an approval was asked for hears of its end, inside the deciding transaction."""

    async def asked(self, tx: Transaction, wanted: ApprovalRequest) -> ApprovalRequest:
        """Return what somebody asks for through the API as it is to be stored.

        Raises `Invalid` where its details do not fit.
        """
        ...

    async def check_arguments(
        self, tx: Transaction, approval: Approval, arguments: Mapping[str, JsonValue]
    ) -> None:
        """Raise `Invalid` where edited arguments do not fit."""
        ...

    async def grant(self, tx: Transaction, approval: Approval, granted_by: str) -> None:
        """Allow what was asked for the rest of its chat, where that may be."""
        ...

    async def decided(self, tx: Transaction, approval: Approval) -> None:
        """Take over how it ended: approved, rejected, expired or cancelled."""
        ...


class SandboxConfigStore(Protocol):
    """The rules for sandboxed commands, as an administrator set them."""

    async def get(self) -> SandboxConfig:
        """Return what is in force."""
        ...

    async def update(self, changes: Mapping[str, JsonValue]) -> SandboxConfig:
        """Change the given fields. Raises `Invalid` naming the one that does not fit."""
        ...

    async def status(self) -> SandboxStatus:
        """Return what is really used on this host."""
        ...


class Sandbox(Protocol):
    """Runs the commands of agents, confined as docs/sandbox.md says."""

    async def run(self, command: SandboxCommand, config: SandboxConfig) -> SandboxResult:
        """Run a command to its end; cancelled, it returns when nothing of the command is left.

        Raises `SandboxRefused` where nothing may run it as asked, `Invalid` for a workspace or a
        directory that will not do, `Unavailable` where the sandbox could not be set up this time.
        """
        ...

    async def status(self) -> SandboxStatus:
        """Return what is really used on this host. Costs nothing after the first call."""
        ...
