"""Model calls: real litellm against the fake server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from email.utils import formatdate

import pytest
from aiohttp import web

from conclave.adapters.llm.errors import translate
from conclave.adapters.llm.gateway import LiteLLMGateway
from conclave.adapters.net.guard import OutgoingGuard
from conclave.errors import (
    CredentialsRefused,
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
)
from schema.domain.conversations import MessageRole
from schema.domain.llm import ModelRequest, PromptMessage, ToolCall, ToolSpec
from schema.domain.providers import ProviderAccess, ProviderName
from tests.fakes.model_server import Disconnect, Failure, Hang, ModelServer, Reply
from tests.waiting import until


def a_request(text: str = "hello", **changes: object) -> ModelRequest:
    values: dict[str, object] = {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "messages": [
            PromptMessage(role=MessageRole.SYSTEM, content="You are Ada."),
            PromptMessage(role=MessageRole.USER, content=text),
        ],
        "temperature": 0.5,
        "max_tokens": 100,
        "timeout": 10.0,
        "speaker": "Ada",
    }
    return ModelRequest.model_validate(values | changes)


class Heard:
    """A delta sink that keeps what it is told."""

    def __init__(self) -> None:
        self.deltas: list[tuple[int, str]] = []

    async def __call__(self, offset: int, text: str) -> None:
        self.deltas.append((offset, text))

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.deltas)


async def test_a_reply_is_streamed_and_counted(
    gateway: LiteLLMGateway, model_server: ModelServer, access: ProviderAccess
):
    model_server.enqueue(Reply(text="Ärger über 🙂 alles", usage=(1000, 500)))
    heard = Heard()

    reply = await gateway.complete(a_request(), access, heard)

    assert reply.text == heard.text == "Ärger über 🙂 alles"
    assert len(heard.deltas) == 4
    offset = 0
    for position, text in heard.deltas:
        assert position == offset
        offset += len(text)
    assert (reply.tokens_in, reply.tokens_out) == (1000, 500)
    assert reply.cost_usd == Decimal("0.00015") + Decimal("0.0003")
    assert reply.finish_reason == "stop"
    assert reply.model == "gpt-4o-mini"
    [request] = model_server.requests
    assert request.body["stream"] is True
    assert request.body["stream_options"] == {"include_usage": True}
    assert request.body["temperature"] == 0.5
    assert request.body["max_tokens"] == 100
    assert request.headers["Authorization"] == f"Bearer {access.api_key}"


async def test_an_unknown_model_costs_nothing(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    request = a_request(model="house-model-7b")

    reply = await gateway.complete(request, access, Heard())

    assert reply.text == "reply to hello #1"
    assert reply.cost_usd == 0
    assert gateway.worst_case_usd(request, access) is None
    local = access.model_copy(update={"provider": ProviderName.OLLAMA})
    assert gateway.worst_case_usd(request, local) == 0


async def test_a_server_without_a_key_is_called(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    keyless = access.model_copy(update={"api_key": None})

    reply = await gateway.complete(a_request(), keyless, Heard())

    assert reply.text == "reply to hello #1"


async def test_missing_usage_is_estimated(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    model_server.enqueue(Reply(text="one two three four five", send_usage=False))

    reply = await gateway.complete(a_request("word " * 50), access, Heard())

    assert 50 <= reply.tokens_in <= 80
    assert 4 <= reply.tokens_out <= 8


async def test_tool_calls_are_put_together(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    model_server.enqueue(
        Reply(
            text="Let me look.",
            tool_calls=[("read_file", {"path": "a.txt"}), ("now", ""), ("bad", '{"cut": ')],
        )
    )
    tool = ToolSpec(name="read_file", description="Reads.", parameters={"type": "object"})

    reply = await gateway.complete(a_request(tools=[tool]), access, Heard())

    assert reply.text == "Let me look."
    assert reply.finish_reason == "tool_calls"
    assert reply.tool_calls == [
        ToolCall(id="call_1", name="read_file", arguments='{"path": "a.txt"}'),
        ToolCall(id="call_2", name="now", arguments="{}"),
        ToolCall(id="call_3", name="bad", arguments='{"cut": '),
    ]
    sent = model_server.requests[0].body["tools"]
    assert sent[0]["function"]["name"] == "read_file"


async def test_tool_results_are_sent_back_in_openai_shape(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    call = ToolCall(id="call_1", name="now", arguments="{}")
    messages = [
        PromptMessage(role=MessageRole.USER, content="what time", name="bob"),
        PromptMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call]),
        PromptMessage(role=MessageRole.TOOL, content="noon", tool_call_id="call_1"),
    ]

    await gateway.complete(a_request(messages=messages), access, Heard())

    user, assistant, tool = model_server.requests[0].body["messages"]
    assert user == {"role": "user", "content": "what time", "name": "bob"}
    assert assistant["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}
    assert tool == {"role": "tool", "content": "noon", "tool_call_id": "call_1"}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
async def test_a_no_is_refused_without_another_try(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer, status: int
):
    model_server.enqueue(Failure(status, f"no to {access.api_key}"))

    with pytest.raises(ProviderRefused) as caught:
        await gateway.complete(a_request(), access, Heard())

    assert isinstance(caught.value, CredentialsRefused) is (status in {401, 403})
    assert not caught.value.retryable
    assert len(model_server.requests) == 1
    assert caught.value.message.startswith("OpenAI refused the call: ")
    assert "no to ***" in caught.value.message
    assert str(access.api_key) not in caught.value.message


def test_a_no_without_a_word_is_told_with_its_status():
    class Refusal(Exception):
        status_code = 403

    message = translate(Refusal(), "OpenAI", []).message
    assert message == "OpenAI refused the call: status 403, without a reason"


async def test_a_request_that_cannot_be_processed_is_refused(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    model_server.enqueue(Failure(422, "no", times=2))

    with pytest.raises(ProviderRefused):
        await gateway.complete(a_request(), access, Heard())


@pytest.mark.parametrize("code", ["context_length_exceeded", "content_policy_violation"])
async def test_a_prompt_that_does_not_pass_is_refused(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer, code: str
):
    model_server.enqueue(Failure(400, "This model's maximum context length is 8", code=code))

    with pytest.raises(ProviderRefused):
        await gateway.complete(a_request(), access, Heard())


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 529])
async def test_a_failure_may_be_tried_again(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer, status: int
):
    model_server.enqueue(Failure(status, "busy"))

    with pytest.raises(ProviderUnavailable) as caught:
        await gateway.complete(a_request(), access, Heard())

    assert caught.value.retryable
    assert caught.value.retry_after is None
    assert len(model_server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read_as_seconds_and_as_a_date(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer, status: int
):
    date = formatdate(time.time() + 60, usegmt=True)
    model_server.enqueue(Failure(status, retry_after="7"), Failure(status, retry_after=date))
    waits: list[float] = []
    for _ in range(2):
        with pytest.raises(ProviderUnavailable) as caught:
            await gateway.complete(a_request(), access, Heard())
        waits.append(caught.value.retry_after or 0)

    assert waits[0] == 7
    assert 50 < waits[1] <= 61


@pytest.mark.parametrize("after_chunks", [0, 2])
async def test_a_cut_reply_is_not_taken_for_a_whole_one(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer, after_chunks: int
):
    model_server.enqueue(Disconnect(after_chunks=after_chunks))

    with pytest.raises(ProviderUnavailable):
        await gateway.complete(a_request(), access, Heard())


async def test_a_reply_that_ends_without_a_reason_is_not_taken_for_a_whole_one(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    model_server.enqueue(Reply(text="and then", send_finish=False))

    with pytest.raises(ProviderUnavailable, match="broke off"):
        await gateway.complete(a_request(), access, Heard())


async def test_a_provider_that_hangs_is_given_up(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    model_server.enqueue(Hang(), Reply(text="slow " * 20, chunks=20, chunk_delay=0.1))
    for _ in range(2):
        with pytest.raises(ProviderTimeout, match=r"within 0\.3 s"):
            await gateway.complete(a_request(timeout=0.3), access, Heard())


async def test_a_port_that_nobody_serves_is_unavailable(
    gateway: LiteLLMGateway, access: ProviderAccess, unused_tcp_port: int
):
    nobody = access.model_copy(update={"base_url": f"http://127.0.0.1:{unused_tcp_port}/v1"})

    with pytest.raises(ProviderUnavailable):
        await gateway.complete(a_request(), nobody, Heard())


async def test_a_cancelled_call_lets_go_of_the_provider(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    model_server.enqueue(Reply(text="a b c d e f", chunks=6, chunk_delay=5))
    heard = Heard()
    call = asyncio.create_task(gateway.complete(a_request(), access, heard))
    await until(lambda: heard.deltas, what="the first delta")
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_failure_of_the_listener_is_not_the_providers(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    async def fail(offset: int, text: str) -> None:
        raise LookupError("the listener's own")

    with pytest.raises(LookupError):
        await gateway.complete(a_request(), access, fail)


async def test_the_worst_case_covers_what_is_charged(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer
):
    request = a_request("word " * 1000, max_tokens=400)
    model_server.enqueue(Reply(text="x", usage=(5040, 400)))

    reply = await gateway.complete(request, access, Heard())

    bound = gateway.worst_case_usd(request, access)
    assert bound is not None
    assert reply.cost_usd <= bound < reply.cost_usd * 3


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-sonnet-4-5"),
        ("deepseek", "deepseek-chat"),
        ("mistral", "mistral-large-latest"),
        ("google", "gemini-2.5-pro"),
    ],
)
async def test_every_provider_with_prices_has_a_worst_case(
    gateway: LiteLLMGateway, access: ProviderAccess, provider: str, model: str
):
    elsewhere = access.model_copy(update={"provider": ProviderName(provider)})

    assert (gateway.worst_case_usd(a_request(model=model), elsewhere) or 0) > 0


@pytest.mark.parametrize("provider", ["deepseek", "mistral"])
async def test_openai_like_providers_are_called_at_their_base_url(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer, provider: str
):
    elsewhere = access.model_copy(update={"provider": ProviderName(provider)})
    model = "deepseek-chat" if provider == "deepseek" else "mistral-large-latest"

    reply = await gateway.complete(a_request(model=model), elsewhere, Heard())

    assert reply.text == "reply to hello #1"
    assert reply.cost_usd > 0
    assert model_server.requests[0].body["model"] == model


@pytest.mark.parametrize("model", ["gpt-5", "o3-mini"])
async def test_a_reasoning_model_gets_only_the_parameters_it_takes(
    gateway: LiteLLMGateway, access: ProviderAccess, model_server: ModelServer, model: str
):
    await gateway.complete(a_request(model=model), access, Heard())

    body = model_server.requests[0].body
    assert body["max_completion_tokens"] == 100
    assert "max_tokens" not in body
    assert "temperature" not in body


_MODELS = {
    ProviderName.ANTHROPIC: "claude-3-5-sonnet-20241022",
    ProviderName.OPENAI: "gpt-4o-mini",
    ProviderName.DEEPSEEK: "deepseek-chat",
    ProviderName.MISTRAL: "mistral-small",
    ProviderName.GOOGLE: "gemini-2.0-flash",
    ProviderName.OLLAMA: "llama3",
}


@pytest.fixture
async def diverter(unused_tcp_port: int) -> AsyncIterator[list[web.Request]]:
    """A provider that sends everybody on to another port of this machine, body and all."""
    seen: list[web.Request] = []

    async def divert(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(
            status=307, headers={"Location": f"http://127.0.0.1:{unused_tcp_port}/"}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", divert)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield seen
    await runner.cleanup()


def at(provider: ProviderName, port: int, host: str = "127.0.0.1") -> ProviderAccess:
    return ProviderAccess(
        provider=provider,
        api_key="sk-test-0123456789abcdef",
        base_url=f"http://{host}:{port}/v1",
        default_model="m",
    )


@pytest.mark.parametrize("provider", list(ProviderName))
async def test_no_provider_leads_a_call_elsewhere(
    gateway: LiteLLMGateway,
    diverter: list[web.Request],
    unused_tcp_port: int,
    provider: ProviderName,
):
    request = a_request(provider=provider, model=_MODELS[provider])

    with pytest.raises(ProviderError):
        await gateway.complete(request, at(provider, unused_tcp_port), Heard())

    assert len(diverter) == 1


@pytest.mark.parametrize("provider", list(ProviderName))
async def test_a_base_url_that_comes_to_lead_to_our_own_ports_is_refused_when_called(
    diverter: list[web.Request], unused_tcp_port: int, provider: ProviderName
):
    async def to_loopback(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    guard = OutgoingGuard(own_ports=frozenset({unused_tcp_port}), resolver=to_loopback)
    guarded = LiteLLMGateway(guard)
    request = a_request(provider=provider, model=_MODELS[provider])
    for host in ("127.0.0.1", "models.example"):
        with pytest.raises(ProviderRefused, match="port of this service"):
            await guarded.complete(request, at(provider, unused_tcp_port, host), Heard())
    await guarded.close()

    assert not diverter


@pytest.mark.parametrize("provider", list(ProviderName))
async def test_an_address_nobody_trusts_leads_to_no_loopback_whatever_the_dns_says_later(
    diverter: list[web.Request], unused_tcp_port: int, provider: ProviderName
):
    """An operator's profile was judged when it was stored; its name may lead elsewhere since."""

    async def to_loopback(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    guarded = LiteLLMGateway(OutgoingGuard(resolver=to_loopback))
    request = a_request(provider=provider, model=_MODELS[provider])
    trusted = at(provider, unused_tcp_port, "models.example")
    with pytest.raises(ProviderError):
        await guarded.complete(request, trusted, Heard())
    assert len(diverter) == 1

    untrusted = trusted.model_copy(update={"is_url_trusted": False})
    with pytest.raises(ProviderRefused, match="loopback"):
        await guarded.complete(request, untrusted, Heard())
    await guarded.close()
    assert len(diverter) == 1
