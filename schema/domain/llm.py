"""What is asked of a model and what it answers, in no provider's own words."""

from __future__ import annotations

from decimal import Decimal

from pydantic import JsonValue

from schema.domain.base import Shape
from schema.domain.conversations import MessageRole

_MESSAGE_OVERHEAD = 32
_TOOLS_OVERHEAD = 1024
"""Tokens that providers add of their own: frames of messages, the prompt that explains tools."""


class ToolSpec(Shape):
    """A tool put before a model; `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, JsonValue]


class ToolCall(Shape):
    """A call a model asks for; `arguments` is the JSON text it wrote."""

    id: str
    name: str
    arguments: str


class PromptMessage(Shape):
    """One message of a prompt."""

    role: MessageRole
    content: str
    name: str | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None


class ModelRequest(Shape):
    """One model call. `timeout` is in seconds and bounds the whole call.

    `speaker` is the name of the agent that speaks (the demo provider answers as it).
    `summarises` says that a summary of the prompt is asked for, not a reply to it.
    """

    provider: str
    model: str
    messages: list[PromptMessage]
    temperature: float
    max_tokens: int
    timeout: float
    speaker: str
    tools: list[ToolSpec] = []
    summarises: bool = False

    @property
    def token_bound(self) -> int:
        """A number of tokens that the prompt cannot exceed: no token is shorter than a byte."""
        total = 0
        for message in self.messages:
            texts = [message.content, message.name or ""]
            total += _MESSAGE_OVERHEAD + sum(len(text.encode()) for text in texts)
            for call in message.tool_calls:
                total += _MESSAGE_OVERHEAD + len(call.name.encode()) + len(call.arguments.encode())
        if self.tools:
            total += _TOOLS_OVERHEAD + sum(len(tool.model_dump_json()) for tool in self.tools)
        return total


class ModelReply(Shape):
    """A whole reply. `model` is what really answered; cost by the local price map, in USD."""

    model: str
    text: str
    tool_calls: list[ToolCall] = []
    finish_reason: str
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal
