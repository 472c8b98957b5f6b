"""The demo provider: answers without a key and without a network, always the same way.

It speaks as the agent whose turn it is, takes up what was said last, and calls a tool when it is
asked to ("use <tool>"), so that the whole loop can be tried offline.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import cast

from pydantic import JsonValue

from conclave.ports.models import DeltaSink
from schema.domain.conversations import MessageRole
from schema.domain.llm import ModelReply, ModelRequest, PromptMessage, ToolCall, ToolSpec
from schema.domain.providers import ProviderAccess

MODEL = "demo"
CONTEXT_WINDOW = 8192
"""Small, so that what happens to long chats can be tried as well."""
_SUMMARY_SENTENCES = 40
_DELTAS = 4
_QUOTE_LIMIT = 90
_TRAITS = re.compile(r"^(?:your )?(?:traits|personality)\s*:\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_TOPIC = re.compile(r"^(?:the )?topic\s*:\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_USE = re.compile(r"\buse\s+(?:the\s+)?[`'\"]?([\w.\-]+)", re.IGNORECASE)
_VIEWS = (
    "I would begin with the smallest step that shows whether we are right.",
    "What matters most to me is that we can take it back if we are wrong.",
    "Before we go on, let us say what would change our minds.",
    "I see two ways, and I would try the simpler one first.",
    "The risk is in what we have not measured yet, so let us measure it.",
    "I agree with the direction, and I would make the next step concrete.",
)
_BLANK: dict[str, JsonValue] = {
    "string": "demo",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


class DemoGateway:
    """A `ModelGateway`."""

    def worst_case_usd(self, request: ModelRequest, access: ProviderAccess) -> Decimal:
        """Return nothing: it is free."""
        return Decimal(0)

    async def load_tokenizer(self, request: ModelRequest, access: ProviderAccess) -> None:
        """Do nothing: there is none."""

    def count_tokens(self, request: ModelRequest, access: ProviderAccess) -> int:
        """Return a token for every four characters."""
        said = [message.content for message in request.messages]
        said += [
            call.name + call.arguments
            for message in request.messages
            for call in message.tool_calls
        ]
        return sum(map(_tokens, [*said, *(tool.model_dump_json() for tool in request.tools)]))

    async def complete(
        self, request: ModelRequest, access: ProviderAccess, on_delta: DeltaSink
    ) -> ModelReply:
        """Answer at once, in a few pieces."""
        calls = _asked_calls(request)
        text = "" if calls else _summary(request) if request.summarises else _say(request)
        limit = request.max_tokens * 4
        text, finish_reason = (text[:limit], "length") if len(text) > limit else (text, "stop")
        size = max(1, -(-len(text) // _DELTAS))
        for offset in range(0, len(text), size):
            await on_delta(offset, text[offset : offset + size])
        said = text + "".join(call.name + call.arguments for call in calls)
        return ModelReply(
            model=MODEL,
            text=text,
            tool_calls=calls,
            finish_reason="tool_calls" if calls else finish_reason,
            tokens_in=self.count_tokens(request, access),
            tokens_out=_tokens(said),
            cost_usd=Decimal(0),
        )


def minimal_arguments(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return an object with the required properties of a JSON Schema, each as plain as it gets."""
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list):
        return {}
    return {str(name): _minimal(properties.get(str(name))) for name in required}


def _minimal(schema: JsonValue) -> JsonValue:
    if not isinstance(schema, dict):
        return "demo"
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        choices = schema.get(key)
        if isinstance(choices, list) and choices:
            return choices[0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        return cast("JsonValue", minimal_arguments(schema))
    return _bounded(schema, _BLANK.get(str(kind), "demo"))


def _bounded(schema: dict[str, JsonValue], value: JsonValue) -> JsonValue:
    """Respect the bounds that small values run into."""
    least, short = schema.get("minimum"), schema.get("minLength")
    if isinstance(value, int | float) and isinstance(least, int | float):
        return max(value, least)
    if isinstance(value, str) and isinstance(short, int):
        return value.ljust(short, "o")
    return value


def _asked_calls(request: ModelRequest) -> list[ToolCall]:
    """Return the call the last user message asks for, if such a tool is offered."""
    last = request.messages[-1] if request.messages else None
    if last is None or last.role is not MessageRole.USER or request.summarises:
        return []
    offered = {tool.name.lower(): tool for tool in request.tools}
    for asked in reversed(_USE.findall(last.content)):
        tool: ToolSpec | None = offered.get(str(asked).lower().rstrip("."))
        if tool is not None:
            arguments = json.dumps(minimal_arguments(tool.parameters))
            number = sum(len(message.tool_calls) for message in request.messages) + 1
            return [ToolCall(id=f"demo_{number}", name=tool.name, arguments=arguments)]
    return []


def _say(request: ModelRequest) -> str:
    messages = request.messages
    system = "\n".join(m.content for m in messages if m.role is MessageRole.SYSTEM)
    last = messages[-1] if messages else None
    if last is not None and last.role is MessageRole.TOOL:
        return f"{request.speaker} here. The tool answered: {_quote(last.content)}. That is done."
    traits = _found(_TRAITS, system).rstrip(".")
    topic = _quote(_found(_TOPIC, system))
    parts = [f"{request.speaker} here{f', {traits} as ever' if traits else ''}."]
    if topic:
        parts.append(f"On {topic}:")
    parts.append(_view(request.speaker, messages))
    heard = _quote(last.content.rpartition("\n\n")[2]) if last is not None else ""
    if heard:
        parts.append(f'I heard: "{heard}".')
    return " ".join(parts)


def _summary(request: ModelRequest) -> str:
    """Return the beginning of every line, the latest lines where that is too much."""
    text = request.messages[-1].content if request.messages else ""
    lines = [_quote(line.removeprefix("- ")) for line in text.splitlines() if line.strip()]
    return "\n".join(f"- {line}" for line in lines[-_SUMMARY_SENTENCES:])


def _view(speaker: str, messages: Sequence[PromptMessage]) -> str:
    own = sum(message.role is MessageRole.ASSISTANT for message in messages)
    start = hashlib.sha256(speaker.encode()).digest()[0]
    return _VIEWS[(start + own) % len(_VIEWS)]


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group(1).strip() if match else ""


def _quote(text: str) -> str:
    """Return the start of a text in one line, without what would act: mentions, end markers."""
    line = " ".join(text.replace("@", "").replace("[", "(").replace("]", ")").split())
    return line if len(line) <= _QUOTE_LIMIT else line[: _QUOTE_LIMIT - 1].rstrip() + "…"


def _tokens(text: str) -> int:
    return -(-len(text) // 4)
