"""Chats, as a test makes them beneath the gateway's routes."""

from __future__ import annotations

from sqlalchemy import update
from temporalio.api.enums.v1 import EventType as TemporalEvent
from temporalio.client import Client
from temporalio.service import RPCError

from conclave.approvals.commands import ApprovalFilter
from conclave.container import Core
from conclave.conversations.commands import Advance
from schema.domain.approvals import Approval
from schema.domain.conversations import Conversation, ConversationKind
from schema.domain.events import Event, EventType, conversation_stream
from schema.domain.identity import LOCAL_PRINCIPAL, Principal
from schema.domain.permissions import PermissionMode
from schema.payloads.names import approval_workflow_id
from schema.tables.conversations import ConversationRow
from tests.waiting import until


async def open_chat(
    core: Core, agent_id: int, principal: Principal = LOCAL_PRINCIPAL
) -> Conversation:
    """Open a chat with an agent: every tool that is not denied is offered in it."""
    session = await core.conversations.open_session(agent_id, None, principal)
    async with core.db.transaction() as tx:
        await tx.conn.execute(
            update(ConversationRow)
            .where(ConversationRow.id == session.id)
            .values(kind=ConversationKind.CHAT)
        )
    return await core.conversations.get(session.id, principal)


async def set_mode(core: Core, mode: PermissionMode, **overrides: str) -> None:
    """Set the global rules to this mode and these overrides, whatever they were."""
    names = core.permissions.tool_names()
    await core.permissions.update(mode.value, {name: overrides.get(name) for name in names})


async def say(core: Core, chat_id: int, text: str = "go") -> None:
    """Ask for a turn and do not wait for it."""
    command = Advance(prompt=text)
    await core.conversations.advance(chat_id, command, LOCAL_PRINCIPAL, wait=False)


async def turn_ended(core: Core, chat_id: int, turns: int = 1) -> str:
    """Wait for the end of a chat's n-th turn; return why it stopped."""

    async def ends() -> list[Event]:
        async with core.db.transaction() as tx:
            events = await core.events.of_stream(tx, conversation_stream(chat_id), after_seq=0)
        found = [one for one in events if one.type is EventType.TURN_COMPLETED]
        return found if len(found) >= turns else []

    found = await until(ends, timeout=30, what=f"turn {turns} of chat {chat_id}")
    return str(found[turns - 1].data["stop_reason"])


async def pending_approvals(core: Core, chat_id: int, number: int = 1) -> list[Approval]:
    """Wait until so many calls of a chat wait for a verdict; return them in order."""

    async def waiting() -> list[Approval]:
        wanted = ApprovalFilter(conversation_id=chat_id)
        found, total = await core.approvals.list(wanted, LOCAL_PRINCIPAL, 50, 0)
        return [*found] if total == number else []

    found = await until(waiting, timeout=30, what=f"{number} approvals of chat {chat_id}")
    return found[::-1]


async def approval_runs(client: Client, approval_id: int) -> None:
    """Wait until an approval's workflow has looked at the record and waits."""

    async def waits() -> bool:
        handle = client.get_workflow_handle(approval_workflow_id(approval_id))
        try:
            history = await handle.fetch_history()
        except RPCError:
            return False
        return any(
            event.event_type == TemporalEvent.EVENT_TYPE_TIMER_STARTED for event in history.events
        )

    await until(waits, timeout=30, what=f"the workflow of approval {approval_id}")


async def is_over(client: Client, workflow_id: str) -> bool:
    """Whether a workflow's last run has ended."""
    try:
        described = await client.get_workflow_handle(workflow_id).describe()
    except RPCError:
        return False
    return described.close_time is not None
