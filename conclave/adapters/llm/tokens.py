"""How many tokens a prompt has, by litellm's tokenizer for its model.

A transcript grows at its end and its messages never change, so each is counted once: counting
anew for every call would cost more CPU than the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from conclave.adapters.llm.messages import shaped_message, shaped_tool
from schema.domain.llm import ModelRequest, PromptMessage, ToolSpec
from schema.domain.providers import ProviderName

_REMEMBERED = 100_000
"""Counts kept: two integers each."""
_CALL_OVERHEAD = 8
"""For what litellm does not count of a tool call: its frame."""


class Tokenizer(Protocol):
    """litellm's counter."""

    def token_counter(
        self,
        *,
        model: str,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]] | None = None,
        count_response_tokens: bool = False,
    ) -> int:
        """Count a prompt; with `count_response_tokens` its messages alone."""
        ...


class TokenCounts:
    """Counts prompts message by message, and remembers."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def count(self, tokenizer: Tokenizer, request: ModelRequest, provider: ProviderName) -> int:
        """Return the prompt's tokens: what litellm says of it, and the frames of tool calls."""
        model = request.model
        total = self._tools(tokenizer, model, request.tools)
        for message in request.messages:
            total += self._message(tokenizer, model, message, provider)
        return total

    def _message(
        self, tokenizer: Tokenizer, model: str, message: PromptMessage, provider: ProviderName
    ) -> int:
        key = hash((model, provider, message.role, message.content, message.name, *_calls(message)))
        known = self._known.get(key)
        if known is None:
            shaped = shaped_message(message, provider)
            known = tokenizer.token_counter(
                model=model, messages=[shaped], count_response_tokens=True
            )
            for call in message.tool_calls:
                named = [{"role": "assistant", "content": f"{call.id} {call.name}"}]
                known += _CALL_OVERHEAD + tokenizer.token_counter(
                    model=model, messages=named, count_response_tokens=True
                )
            self._remember(key, known)
        return known

    def _tools(self, tokenizer: Tokenizer, model: str, tools: Sequence[ToolSpec]) -> int:
        """Return the tokens of the tools and of the frame around the reply."""
        key = hash((model, *(tool.model_dump_json() for tool in tools)))
        known = self._known.get(key)
        if known is None:
            shaped = [shaped_tool(tool) for tool in tools]
            known = tokenizer.token_counter(model=model, messages=[], tools=shaped or None)
            self._remember(key, known)
        return known

    def _remember(self, key: int, tokens: int) -> None:
        while len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = tokens


def _calls(message: PromptMessage) -> list[str]:
    return [part for call in message.tool_calls for part in (call.id, call.name, call.arguments)]
