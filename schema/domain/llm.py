"""What is asked of a model and what it answers, in no provider's own words."""

from __future__ import annotations

from decimal import Decimal

from pydantic import JsonValue

from schema.domain.base import Shape
from schema.domain.conversations import MessageRole


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


class ModelReply(Shape):
    """A whole reply. `model` is what really answered; cost by the local price map, in USD."""

    model: str
    text: str
    tool_calls: list[ToolCall] = []
    finish_reason: str
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal
