"""What can go wrong with memories."""

from __future__ import annotations

from conclave.errors import NotFound


class MemoryNotFound(NotFound):
    """No such memory, or a deleted one."""

    code = "memory_not_found"

    def __init__(self, memory_id: int) -> None:
        super().__init__(f"Memory {memory_id} not found")


class NoSuchAgent(NotFound):
    """The agent whose memories are asked for does not exist."""

    code = "agent_not_found"

    def __init__(self, agent_id: int) -> None:
        super().__init__(f"Agent {agent_id} not found")


class NoSuchConversation(NotFound):
    """The conversation a memory is about is not there, or not the caller's to see."""

    code = "conversation_not_found"

    def __init__(self, conversation_id: int) -> None:
        super().__init__(f"Conversation {conversation_id} not found", field="scope_id")
