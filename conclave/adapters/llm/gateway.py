"""Model calls through litellm. The one module that imports it: 5 s and 170 MB, workers only.

What costs CPU per call is litellm's own wrapping; what can be left out is left out here: its
chunk builder (run twice at the end of every stream, on a thread), its callbacks, its retries.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Lock
from typing import Protocol, cast

from aiohttp import ClientSession

from conclave.adapters.llm import prices
from conclave.adapters.llm.endpoints import ENDPOINTS, base_url, litellm_model
from conclave.adapters.llm.errors import translate
from conclave.adapters.llm.messages import shaped_message, shaped_tool
from conclave.adapters.llm.tokens import TokenCounts
from conclave.adapters.net.guard import OutgoingGuard
from conclave.adapters.net.sessions import guarded_session
from conclave.errors import (
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UrlRefused,
)
from conclave.ports.models import DeltaSink
from schema.domain.llm import ModelReply, ModelRequest, ToolCall
from schema.domain.providers import ProviderAccess, ProviderName

CLIENT_TIMEOUT = 3600.0
"""Seconds. litellm keeps a client for each timeout it sees, so this one never changes: the
request's own timeout is kept around the whole call."""
_KEEP_SECONDS = 120.0
_CONNECTIONS = 1000
_KEYLESS = "none"
"""The OpenAI client insists on a key even where the server takes none."""


class _Function(Protocol):
    name: str | None
    arguments: str | None


class _ToolDelta(Protocol):
    index: int | None
    id: str | None
    function: _Function | None


class _Delta(Protocol):
    content: str | None
    tool_calls: Sequence[_ToolDelta] | None


class _Choice(Protocol):
    delta: _Delta
    finish_reason: str | None


class _Chunk(Protocol):
    model: str | None
    choices: Sequence[_Choice]


class _Usage(Protocol):
    prompt_tokens: int
    completion_tokens: int


class _Stream(Protocol):
    """litellm's CustomStreamWrapper. It keeps usage chunks in `chunks` and does not yield them."""

    chunks: Sequence[_Chunk]
    received_finish_reason: str | None

    def __aiter__(self) -> AsyncIterator[_Chunk]: ...
    async def aclose(self) -> None: ...


class _LiteLLM(Protocol):
    """What is used of the litellm module."""

    model_cost: prices.PriceMap
    suppress_debug_info: bool
    drop_params: bool
    telemetry: bool
    disable_streaming_logging: bool
    disable_hf_tokenizer_download: bool | None

    def acompletion(self, **kwargs: object) -> Awaitable[_Stream | None]: ...
    def stream_chunk_builder(self, chunks: list[_Chunk]) -> object: ...
    def token_counter(
        self,
        *,
        model: str,
        text: str | None = None,
        messages: Sequence[Mapping[str, object]] | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        count_response_tokens: bool = False,
    ) -> int: ...
    def cost_per_token(self, **kwargs: object) -> tuple[float, float]: ...
    def close_litellm_async_clients(self) -> Awaitable[None]: ...


class _Client(Protocol):
    """litellm's AsyncHTTPHandler."""

    async def close(self) -> None: ...


@dataclass
class _Call:
    """A tool call while its pieces arrive."""

    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


@dataclass
class _Spoken:
    """A reply while its chunks arrive."""

    model: str | None = None
    texts: list[str] = field(default_factory=list[str])
    length: int = 0
    calls: list[_Call] = field(default_factory=list[_Call])
    positions: dict[int, int] = field(default_factory=dict[int, int])
    finish_reason: str | None = None

    def add_call(self, piece: _ToolDelta) -> None:
        """Append a piece to its call. Some providers number every call 0: a new id is a new one."""
        index = piece.index or 0
        position = self.positions.get(index)
        if position is None or (piece.id and piece.id != self.calls[position].id):
            position = self.positions[index] = len(self.calls)
            self.calls.append(_Call(piece.id or f"call_{position + 1}"))
        call = self.calls[position]
        if piece.function is not None:
            call.name = call.name or piece.function.name or ""
            call.arguments.append(piece.function.arguments or "")

    def tool_calls(self) -> list[ToolCall]:
        """Return the calls, whole; no arguments at all are an empty object."""
        return [
            ToolCall(id=call.id, name=call.name, arguments="".join(call.arguments) or "{}")
            for call in self.calls
            if call.name
        ]


class LiteLLMGateway:
    """A `ModelGateway`. Calls go through the guard: where an administrator's word stands behind
    the address also to loopback and private ranges, never to what is this product's own, wherever
    the DNS or a redirect leads. Trusted addresses share no connection with others."""

    def __init__(self, guard: OutgoingGuard | None = None) -> None:
        self._guard = guard or OutgoingGuard()
        self._module: _LiteLLM | None = None
        self._clients: dict[bool, _Client] = {}
        """By whether the address is trusted."""
        self._lock = Lock()
        self._counts = TokenCounts()
        self._tokenizers: set[str] = set()

    def load(self) -> None:
        """Import litellm. Takes seconds: a worker does it before it polls. Thread-safe."""
        with self._lock:
            if self._module is None:
                # Without it the import fetches a price map from the network.
                os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
                # Calls to OpenAI go out as all others do, not through the openai client: about
                # 7 ms of CPU a call instead of 12. "False" in the environment undoes it.
                os.environ.setdefault("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "True")
                import litellm

                module = cast("_LiteLLM", litellm)
                module.suppress_debug_info = True
                module.drop_params = True
                module.telemetry = False
                module.disable_streaming_logging = True
                module.disable_hf_tokenizer_download = True
                self._clients = {
                    is_trusted: _guarded_client(self._guard, is_trusted=is_trusted)
                    for is_trusted in (True, False)
                }
                self._module = module

    async def close(self) -> None:
        """Close the connections of the clients that litellm keeps."""
        if self._module is not None:
            await self._module.close_litellm_async_clients()
        for client in self._clients.values():
            await client.close()

    def worst_case_usd(self, request: ModelRequest, access: ProviderAccess) -> Decimal | None:
        """Return the most the call can cost; None for a model without a price."""
        return prices.worst_case_usd(self._loaded().model_cost, access.provider, request)

    async def load_tokenizer(self, request: ModelRequest, access: ProviderAccess) -> None:
        """Have litellm load the model's tokenizer, beside the loop: heartbeats must go on."""
        if request.model not in self._tokenizers:
            bare = request.model_copy(update={"messages": request.messages[:1], "tools": []})
            await asyncio.to_thread(self.count_tokens, bare, access)
            self._tokenizers.add(request.model)

    def count_tokens(self, request: ModelRequest, access: ProviderAccess) -> int:
        """Return the prompt's tokens, by litellm's tokenizer for the model."""
        return self._counts.count(self._loaded(), request, access.provider)

    async def complete(
        self, request: ModelRequest, access: ProviderAccess, on_delta: DeltaSink
    ) -> ModelReply:
        """Stream a reply. Raises `ProviderRefused`, `ProviderUnavailable`, `ProviderTimeout`."""
        if self._module is None:
            await asyncio.to_thread(self.load)
        label = ENDPOINTS[access.provider].label
        try:
            async with asyncio.timeout(request.timeout):
                return await self._stream(request, access, on_delta)
        except TimeoutError as error:
            message = f"{label} did not answer within {request.timeout:g} s."
            raise ProviderTimeout(message) from error

    async def _stream(
        self, request: ModelRequest, access: ProviderAccess, on_delta: DeltaSink
    ) -> ModelReply:
        litellm = self._loaded()
        spoken = _Spoken()
        try:
            client = self._clients[access.is_url_trusted]
            stream = await litellm.acompletion(**_arguments(request, access), client=client)
        except Exception as error:
            raise self._translated(error, access) from error
        if stream is None:
            # After a 422 litellm tries once more without the fields named, then gives up so.
            label = ENDPOINTS[access.provider].label
            raise ProviderRefused(f"{label} refused the call: it cannot be processed.")
        chunks = aiter(stream)
        try:
            while (chunk := await self._next(chunks, access)) is not None:
                await _take(chunk, spoken, on_delta)
                if spoken.finish_reason is not None and _usages(stream):
                    break
        finally:
            await stream.aclose()
        if stream.received_finish_reason is None:
            label = ENDPOINTS[access.provider].label
            raise ProviderUnavailable(f"{label} broke off in the middle of a reply.")
        return self._reply(request, access, spoken, stream)

    async def _next(self, chunks: AsyncIterator[_Chunk], access: ProviderAccess) -> _Chunk | None:
        """Return the next chunk, None at the end; only the provider's failures are translated."""
        try:
            return await anext(chunks, None)
        except Exception as error:
            raise self._translated(error, access) from error

    def _reply(
        self, request: ModelRequest, access: ProviderAccess, spoken: _Spoken, stream: _Stream
    ) -> ModelReply:
        text = "".join(spoken.texts)
        calls = spoken.tool_calls()
        usage = self._usage(stream)
        if usage is None:
            tokens_in, tokens_out = self._estimate(request, text, calls)
        else:
            tokens_in, tokens_out = usage.prompt_tokens, usage.completion_tokens
        return ModelReply(
            model=spoken.model or request.model,
            text=text,
            tool_calls=calls,
            finish_reason=spoken.finish_reason or "stop",
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=self._cost(request, access, tokens_in, tokens_out, usage),
        )

    def _usage(self, stream: _Stream) -> _Usage | None:
        """Return what the provider counted; Anthropic counts in two parts."""
        found = _usages(stream)
        if len(found) <= 1:
            return found[0] if found else None
        whole = self._loaded().stream_chunk_builder(list(stream.chunks))
        usage: object = getattr(whole, "usage", None)
        return cast("_Usage | None", usage)

    def _estimate(
        self, request: ModelRequest, text: str, calls: Sequence[ToolCall]
    ) -> tuple[int, int]:
        """Count with litellm's tokenizer where the provider sent no usage."""
        count = self._loaded().token_counter
        prompt = "\n".join(message.content for message in request.messages)
        spoken = text + "".join(call.name + call.arguments for call in calls)
        return count(model=request.model, text=prompt), count(model=request.model, text=spoken)

    def _cost(
        self,
        request: ModelRequest,
        access: ProviderAccess,
        tokens_in: int,
        tokens_out: int,
        usage: _Usage | None,
    ) -> Decimal:
        """Return the cost with cached and reasoning tokens at their own prices."""
        litellm = self._loaded()
        if prices.entry(litellm.model_cost, access.provider, request.model) is None:
            return Decimal(0)
        parts = litellm.cost_per_token(
            model=litellm_model(access.provider, request.model),
            custom_llm_provider=ENDPOINTS[access.provider].prefix,
            prompt_tokens=tokens_in,
            completion_tokens=tokens_out,
            usage_object=usage,
        )
        return sum((Decimal(str(part)) for part in parts), Decimal(0)).quantize(prices.NANO)

    def _translated(self, error: Exception, access: ProviderAccess) -> ProviderError:
        label = ENDPOINTS[access.provider].label
        refusal = _refusal(error)
        if refusal is not None:
            return ProviderRefused(f"{label} may not be called: {refusal.message}")
        return translate(error, label, [access.api_key] if access.api_key else [])

    def _loaded(self) -> _LiteLLM:
        if self._module is None:
            self.load()
        return cast("_LiteLLM", self._module)


def _guarded_client(guard: OutgoingGuard, *, is_trusted: bool) -> _Client:
    """Return a client that any provider is called with. It follows no redirect: none sends one."""
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, get_ssl_configuration

    def session() -> ClientSession:
        return guarded_session(
            guard,
            field="base_url",
            administrator=is_trusted,
            timeout=None,
            keep_seconds=_KEEP_SECONDS,
            limit=_CONNECTIONS,
        )

    tls = get_ssl_configuration(None)
    transport = LiteLLMAiohttpTransport(
        client=session, ssl_verify=None if isinstance(tls, str) else tls
    )
    return AsyncHTTPHandler(timeout=CLIENT_TIMEOUT, transport=transport, follow_redirects=False)


def _refusal(error: BaseException | None) -> UrlRefused | None:
    """Return the guard's refusal behind an error of litellm's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UrlRefused):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


async def _take(chunk: _Chunk, spoken: _Spoken, on_delta: DeltaSink) -> None:
    """Add a chunk to the reply and pass on its text."""
    spoken.model = spoken.model or chunk.model
    for choice in chunk.choices[:1]:
        if choice.finish_reason:
            spoken.finish_reason = choice.finish_reason
        for piece in choice.delta.tool_calls or ():
            spoken.add_call(piece)
        if text := choice.delta.content:
            offset = spoken.length
            spoken.texts.append(text)
            spoken.length += len(text)
            await on_delta(offset, text)


def _usages(stream: _Stream) -> list[_Usage]:
    found = (getattr(chunk, "usage", None) for chunk in stream.chunks)
    return [cast("_Usage", usage) for usage in found if usage is not None]


def _arguments(request: ModelRequest, access: ProviderAccess) -> dict[str, object]:
    """Return acompletion's arguments. Retries are the engine's business, so there are none here."""
    arguments: dict[str, object] = {
        "model": litellm_model(access.provider, request.model),
        "messages": [shaped_message(message, access.provider) for message in request.messages],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "timeout": CLIENT_TIMEOUT,
        "api_key": access.api_key or _KEYLESS,
        "stream": True,
        "stream_options": {"include_usage": True},
        "num_retries": 0,
        "max_retries": 0,
        "no-log": True,
    }
    if access.base_url is not None or access.provider is ProviderName.OLLAMA:
        arguments["api_base"] = base_url(access)
    if request.tools:
        arguments["tools"] = [shaped_tool(tool) for tool in request.tools]
    return arguments
