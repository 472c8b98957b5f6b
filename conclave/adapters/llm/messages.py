"""Prompts in OpenAI's shape, which litellm counts and turns into each provider's."""

from __future__ import annotations

from collections.abc import Mapping

from schema.domain.conversations import MessageRole
from schema.domain.llm import PromptMessage, ToolSpec
from schema.domain.providers import ProviderName


def shaped_message(message: PromptMessage, provider: ProviderName) -> dict[str, object]:
    """Return a message as `messages` takes it."""
    shaped: dict[str, object] = {"role": message.role.value, "content": message.content}
    if message.role is MessageRole.TOOL:
        shaped["tool_call_id"] = message.tool_call_id
    # Others refuse the field or drop it; OpenAI takes these letters only.
    elif message.name and provider is ProviderName.OPENAI and _is_plain(message.name):
        shaped["name"] = message.name
    if message.tool_calls:
        shaped["content"] = message.content or None
        shaped["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return shaped


def shaped_tool(tool: ToolSpec) -> Mapping[str, object]:
    """Return a tool as `tools` takes it."""
    return {"type": "function", "function": tool.model_dump()}


def _is_plain(name: str) -> bool:
    return len(name) <= 64 and name.isascii() and name.replace("_", "").replace("-", "").isalnum()
