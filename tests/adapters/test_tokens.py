"""How prompts are counted, and how much fits into a model."""

from __future__ import annotations

from typing import Any

from conclave.adapters.llm.catalogue import PriceMapCatalogue
from conclave.adapters.llm.demo import CONTEXT_WINDOW, DemoGateway
from conclave.adapters.llm.gateway import LiteLLMGateway
from conclave.adapters.llm.messages import shaped_message, shaped_tool
from conclave.adapters.llm.tokens import TokenCounts
from schema.domain.conversations import MessageRole
from schema.domain.llm import ModelRequest, PromptMessage, ToolCall, ToolSpec
from schema.domain.providers import ProviderAccess, ProviderName
from tests.adapters.test_gateway import Heard, a_request

OPENAI = ProviderAccess(
    provider=ProviderName.OPENAI, api_key="sk-test", base_url=None, default_model="m"
)
TOOL = ToolSpec(
    name="look",
    description="looks at a file",
    parameters={"type": "object", "properties": {"path": {"type": "string"}}},
)


def said(role: MessageRole, content: str, **fields: object) -> PromptMessage:
    return PromptMessage.model_validate({"role": role, "content": content, **fields})


def prompt(*messages: PromptMessage, tools: list[ToolSpec] | None = None) -> ModelRequest:
    system = said(MessageRole.SYSTEM, "You are Ada. Ein Tee, 緑茶, 🍵.")
    return a_request(messages=[system, *messages], tools=tools or [])


def by_litellm(request: ModelRequest) -> int:
    import litellm

    shaped: list[Any] = [
        shaped_message(message, ProviderName.OPENAI) for message in request.messages
    ]
    tools: list[Any] = [shaped_tool(tool) for tool in request.tools]
    counted: int = litellm.token_counter(model=request.model, messages=shaped, tools=tools or None)
    return counted


def test_a_prompt_has_as_many_tokens_as_litellm_says(gateway: LiteLLMGateway):
    request = prompt(*(said(MessageRole.USER, f"word {n} " * n) for n in range(1, 40)))
    assert gateway.count_tokens(request, OPENAI) == by_litellm(request)
    assert gateway.count_tokens(request, OPENAI) == by_litellm(request)


def test_tools_and_their_calls_are_never_counted_short(gateway: LiteLLMGateway):
    call = ToolCall(id="call_1", name="look", arguments='{"path": "a/b.txt"}')
    request = prompt(
        said(MessageRole.USER, "Look."),
        said(MessageRole.ASSISTANT, "", tool_calls=[call]),
        said(MessageRole.TOOL, "seen", tool_call_id="call_1"),
        tools=[TOOL],
    )
    counted = gateway.count_tokens(request, OPENAI)
    assert by_litellm(request) <= counted <= by_litellm(request) + 30


def test_a_message_is_counted_once():
    asked: list[object] = []

    class Tokenizer:
        def token_counter(self, *, model: str, messages: object, **options: object) -> int:
            asked.append(messages)
            return 3

    counts, lines = TokenCounts(), [said(MessageRole.USER, f"{n}") for n in range(5)]
    assert counts.count(Tokenizer(), prompt(*lines), ProviderName.OPENAI) == 3 * 7
    assert len(asked) == 7
    counts.count(Tokenizer(), prompt(*lines, said(MessageRole.USER, "new")), ProviderName.OPENAI)
    assert len(asked) == 8
    other = prompt(*lines).model_copy(update={"model": "gpt-3.5-turbo"})
    counts.count(Tokenizer(), other, ProviderName.OPENAI)
    assert len(asked) == 15


def test_windows_are_the_price_maps_and_the_demos():
    catalogue = PriceMapCatalogue()
    assert catalogue.context_window(OPENAI, "gpt-4o-mini") == 128_000
    assert catalogue.context_window(OPENAI, "openai/gpt-4o-mini") == 128_000
    assert catalogue.context_window(OPENAI, "nobody-knows-it") is None
    unset = OPENAI.model_copy(update={"api_key": None})
    assert catalogue.context_window(unset, "gpt-4o-mini") == CONTEXT_WINDOW


async def test_the_demo_summarises_by_the_beginning_of_each_line():
    text = "What was said:\nUser: The code is 42.\nAda: Noted, use look."
    request = prompt(said(MessageRole.USER, text), tools=[TOOL])
    request = request.model_copy(update={"summarises": True})
    reply = await DemoGateway().complete(request, OPENAI, Heard())
    assert reply.text.splitlines() == [
        "- What was said:", "- User: The code is 42.", "- Ada: Noted, use look.",
    ]  # fmt: skip
    assert reply.tool_calls == []
