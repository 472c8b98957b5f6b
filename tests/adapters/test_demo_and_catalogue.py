"""The demo provider, who answers when, the probe and the catalogue."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import JsonValue

from conclave.adapters.llm.catalogue import PriceMapCatalogue, model_alias
from conclave.adapters.llm.demo import DemoGateway, minimal_arguments
from conclave.adapters.llm.gateway import LiteLLMGateway
from conclave.adapters.llm.probe import HttpProviderProbe
from conclave.adapters.llm.routing import RoutingGateway
from conclave.adapters.net.guard import OutgoingGuard
from schema.domain.conversations import MessageRole
from schema.domain.llm import ModelRequest, PromptMessage, ToolSpec
from schema.domain.providers import ProviderAccess, ProviderName
from tests.adapters.test_gateway import Heard, a_request
from tests.fakes.model_server import ModelServer

NOBODY = ProviderAccess(
    provider=ProviderName.ANTHROPIC, api_key=None, base_url=None, default_model="m"
)
SYSTEM = "You are Ada.\nYour traits: curious, blunt.\nThe topic: bridges\nEnd with [DONE]."


def asked(text: str, *after: PromptMessage, tools: list[ToolSpec] | None = None) -> ModelRequest:
    messages = [
        PromptMessage(role=MessageRole.SYSTEM, content=SYSTEM),
        PromptMessage(role=MessageRole.USER, content=text),
        *after,
    ]
    return a_request(messages=messages, tools=tools or [])


async def test_the_demo_speaks_as_its_agent_and_always_the_same():
    heard = Heard()

    first = await DemoGateway().complete(asked("Build it @bob [DONE]"), NOBODY, heard)
    again = await DemoGateway().complete(asked("Build it @bob [DONE]"), NOBODY, Heard())

    assert first == again
    assert first.model == "demo"
    assert first.cost_usd == 0
    assert first.text == heard.text
    assert len(heard.deltas) > 1
    for word in ("Ada", "curious", "bridges", "Build it"):
        assert word in first.text
    assert "@" not in first.text
    assert "[DONE]" not in first.text


async def test_the_demo_calls_a_tool_it_is_asked_to_use_and_closes_after_its_result():
    schema = {
        "type": "object",
        "properties": {"path": {"type": "string"}, "lines": {"type": "integer", "minimum": 3}},
        "required": ["path", "lines"],
    }
    tool = ToolSpec.model_validate(
        {"name": "read_file", "description": "Reads", "parameters": schema}
    )
    demo = DemoGateway()

    reply = await demo.complete(asked("please use read_file.", tools=[tool]), NOBODY, Heard())
    [call] = reply.tool_calls
    result = PromptMessage(role=MessageRole.TOOL, content="42 lines", tool_call_id=call.id)
    spoken = PromptMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call])
    closing = await demo.complete(
        asked("please use read_file.", spoken, result, tools=[tool]), NOBODY, Heard()
    )

    assert (call.name, reply.finish_reason) == ("read_file", "tool_calls")
    assert json.loads(call.arguments) == {"path": "demo", "lines": 3}
    assert closing.tool_calls == []
    assert "42 lines" in closing.text


def test_minimal_arguments_respect_enums_and_nesting():
    inner: dict[str, JsonValue] = {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
    }
    schema: dict[str, JsonValue] = {
        "properties": {"mode": {"enum": ["a"]}, "box": inner},
        "required": ["mode", "box"],
    }

    assert minimal_arguments(schema) == {"mode": "a", "box": {"on": True}}


async def test_the_demo_answers_only_while_a_provider_is_not_set_up(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    routing = RoutingGateway(gateway, DemoGateway())

    demo = await routing.complete(a_request(), NOBODY, Heard())
    real = await routing.complete(a_request(), access, Heard())

    assert demo.model == "demo"
    assert real.text == "reply to hello #1"
    assert routing.worst_case_usd(a_request(), NOBODY) == 0
    assert (routing.worst_case_usd(a_request(), access) or 0) > 0


def test_every_provider_has_models_with_stable_ids():
    catalogue = PriceMapCatalogue()

    for provider in ProviderName:
        models = catalogue.models(provider.value)
        assert [model.id for model in models] == list(range(1, len(models) + 1))
        assert len({model.model_name for model in models}) == len(models) > 0
    assert any(model.vision and model.extended_thinking for model in catalogue.models("anthropic"))
    assert catalogue.models("unheard-of") == ()


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("mistral/mistral-large-latest", "mistral-large"),
        ("o1", "o1"),
    ],
)
def test_an_alias_has_neither_date_nor_provider(name: str, alias: str):
    assert model_alias(name) == alias


def test_the_catalogue_and_the_gateway_module_do_not_import_litellm():
    code = (
        "import sys, conclave.adapters.llm.gateway, conclave.adapters.llm.probe\n"
        "from conclave.adapters.llm.catalogue import PriceMapCatalogue\n"
        "print(len(PriceMapCatalogue().models('openai')))\n"
        "print(sorted({'litellm', 'openai'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    known, loaded = done.stdout.decode().splitlines()
    assert int(known) > 0
    assert loaded == "[]"


def reached(server: ModelServer, provider: ProviderName, key: str | None) -> ProviderAccess:
    root = server.base_url.removesuffix("/v1")
    roots = {ProviderName.ANTHROPIC, ProviderName.OLLAMA, ProviderName.GOOGLE}
    return ProviderAccess(
        provider=provider,
        api_key=key,
        base_url=root if provider in roots else server.base_url,
        default_model="m",
    )


@pytest.mark.parametrize(
    ("provider", "sentence"),
    [
        (ProviderName.ANTHROPIC, "Anthropic API key is valid"),
        (ProviderName.OPENAI, "OpenAI API key is valid"),
        (ProviderName.DEEPSEEK, "DeepSeek API key is valid"),
        (ProviderName.MISTRAL, "Mistral API key is valid"),
        (ProviderName.GOOGLE, "Google API key is valid"),
        (ProviderName.OLLAMA, "Connected to Ollama. 2 models available."),
    ],
)
async def test_a_probe_lists_models(
    model_server: ModelServer, provider: ProviderName, sentence: str
):
    model_server.api_key = "key-that-holds"
    probe = HttpProviderProbe(OutgoingGuard())

    result = await probe.test(reached(model_server, provider, "key-that-holds"))

    assert result == (True, sentence, ["fake-small", "fake-large"])


async def test_a_probe_with_a_wrong_key_says_so(model_server: ModelServer):
    model_server.api_key = "key-that-holds"
    probe = HttpProviderProbe(OutgoingGuard())

    for provider in (ProviderName.ANTHROPIC, ProviderName.OPENAI, ProviderName.GOOGLE):
        result = await probe.test(reached(model_server, provider, "wrong"))
        assert result == (False, "Invalid API key", [])


async def test_a_probe_never_raises(unused_tcp_port: int, model_server: ModelServer):
    probe = HttpProviderProbe(OutgoingGuard(), timeout=2)
    for url in (
        f"http://127.0.0.1:{unused_tcp_port}/v1",
        "http://169.254.169.254/v1",
        "nonsense",
        model_server.base_url + "/elsewhere",
    ):
        access = ProviderAccess(
            provider=ProviderName.OPENAI, api_key="sk-secret", base_url=url, default_model="m"
        )
        works, sentence, models = await probe.test(access)
        assert not works
        assert sentence
        assert "sk-secret" not in sentence
        assert models == []
