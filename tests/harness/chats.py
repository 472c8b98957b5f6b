"""Chats, as a test makes them beneath the gateway's routes."""

from __future__ import annotations

from sqlalchemy import update

from conclave.container import Core
from schema.domain.conversations import Conversation, ConversationKind
from schema.domain.identity import LOCAL_PRINCIPAL, Principal
from schema.domain.permissions import PermissionMode
from schema.tables.conversations import ConversationRow


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
