"""A model server that speaks the OpenAI protocol, for tests, benches and chaos runs.

In a test: `async with ModelServer() as server:` and point a provider at `server.base_url`.
As a program: `python -m tests.fakes.model_server --port 9000 --delay 2 --log calls.jsonl`.
What it answers is a queue of scripted behaviours, then a default responder.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from aiohttp import web

Json = dict[str, Any]
_ORDER = re.compile(r"CALL (\w+) (\{.*\})")
"""In a prompt: as a program the server asks for these calls, one a line, before it speaks."""
_SPEECH = re.compile(r"SPEAK (\d+) EVERY (\d+) MS")
"""In a prompt: as a program the server streams so many numbered words, so far apart."""


@dataclass(frozen=True)
class Reply:
    """An answer. Delays are in seconds; `delay` comes before the first chunk.

    `tool_calls` are (name, arguments) pairs; arguments may be raw text, to be malformed.
    `usage` is (prompt, completion) tokens, counted in words where it is None. With `stamp` each
    chunk starts with `t=<Unix time of its emission> `.
    """

    text: str = ""
    tool_calls: Sequence[tuple[str, Json | str]] = ()
    delay: float = 0.0
    chunk_delay: float = 0.0
    chunks: int = 4
    usage: tuple[int, int] | None = None
    send_usage: bool = True
    finish_reason: str | None = None
    send_finish: bool = True
    stamp: bool = False


@dataclass(frozen=True)
class Failure:
    """An HTTP error, `times` times over. `body` replaces the usual error object."""

    status: int
    message: str = "scripted failure"
    code: str | None = None
    retry_after: str | None = None
    times: int = 1
    body: str | None = None
    delay: float = 0.0


@dataclass(frozen=True)
class Hang:
    """No answer until the server stops."""


@dataclass(frozen=True)
class Disconnect:
    """A stream that is cut after some chunks of `text`; before any byte where it is 0."""

    after_chunks: int = 2
    text: str = "this reply is cut in the middle"


Behaviour = Reply | Failure | Hang | Disconnect


@dataclass(frozen=True)
class Received:
    """A request as it arrived; `n` counts from 1, `at` is Unix time, `peer` the client's port."""

    n: int
    path: str
    body: Json
    headers: dict[str, str]
    at: float
    peer: int = 0

    @property
    def summarises(self) -> bool:
        """Whether a summary of a conversation is asked for, not a reply in it."""
        messages = self.body.get("messages") or [{}]
        return _plain(messages[0].get("content")).startswith("You write the summary")

    @property
    def last_user_text(self) -> str:
        """The text of the last user message."""
        for message in reversed(self.body.get("messages") or []):
            if message.get("role") == "user":
                return _plain(message.get("content"))
        return ""


Responder = Callable[[Received], Behaviour]


def _plain(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def echo(received: Received) -> Behaviour:
    """Answer with the last user text and the number of the request."""
    return Reply(text=f"reply to {received.last_user_text} #{received.n}")


@dataclass
class ModelServer:
    """The server; everything is scriptable while it runs."""

    port: int = 0
    responder: Responder = echo
    models: Sequence[str] = ("fake-small", "fake-large")
    dimensions: int = 8
    log: Path | None = None
    api_key: str | None = None
    """Where set, any other bearer key is refused with 401."""
    script: deque[Behaviour] = field(default_factory=deque)
    requests: list[Received] = field(default_factory=list)
    """Chat requests."""
    embedding_requests: list[Received] = field(default_factory=list)
    sent: int = 0
    """Chat requests whose reply was written to its end."""
    keep: bool = True
    """Whether `requests` is filled: a bench has no use for it."""

    _count: int = 0
    _runner: web.AppRunner | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _log_file: IO[str] | None = None

    @property
    def base_url(self) -> str:
        """What to set as a provider's base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def enqueue(self, *behaviours: Behaviour) -> None:
        """Script what the next chat requests get."""
        for behaviour in behaviours:
            times = behaviour.times if isinstance(behaviour, Failure) else 1
            self.script.extend([behaviour] * times)

    def reset(self) -> None:
        """Forget requests and script."""
        self.script.clear()
        self.requests.clear()
        self.embedding_requests.clear()
        self.responder = echo
        self.api_key = None
        self._count = 0
        self.sent = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on `port`, or on a free one."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1beta/models", self._google_models)
        app.router.add_get("/api/tags", self._ollama_tags)
        if self.log is not None:
            self._log_file = self.log.open("a", encoding="utf-8")
        # aiohttp sets TCP_NODELAY on every connection, without which a reply waits 40 ms.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and let go of whoever hangs."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._log_file is not None:
            self._log_file.close()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        received = await self._receive(request)
        if self.keep:
            self.requests.append(received)
        self._note("received", received)
        if (refusal := self._refuse_key(request)) is not None:
            return refusal
        behaviour = self.script.popleft() if self.script else self.responder(received)
        try:
            response = await self._behave(request, received, behaviour)
        except (ConnectionError, asyncio.CancelledError):
            self._note("cut", received)
            raise
        self.sent += 1
        self._note("sent", received)
        return response

    async def _receive(self, request: web.Request) -> Received:
        at = time.time()
        body = json.loads(await request.read())
        if request.path.endswith("/chat/completions"):
            self._count += 1
        address = request.transport.get_extra_info("peername") if request.transport else None
        peer = int(address[1]) if address else 0
        return Received(self._count, request.path, body, dict(request.headers), at, peer)

    def _note(self, event: str, received: Received) -> None:
        if self._log_file is None:
            return
        messages = json.dumps(received.body.get("messages"), sort_keys=True)
        line = {
            "event": event,
            "n": received.n,
            "time": time.time(),
            "peer": received.peer,
            "model": received.body.get("model"),
            "last_user_text": received.last_user_text[:300],
            "messages": len(received.body.get("messages") or []),
            "prompt_sha": hashlib.sha256(messages.encode()).hexdigest()[:16],
        }
        self._log_file.write(json.dumps(line) + "\n")
        self._log_file.flush()

    def _refuse_key(self, request: web.Request) -> web.Response | None:
        headers = request.headers
        given = {headers.get("x-api-key"), headers.get("x-goog-api-key")}
        given.add(headers.get("Authorization", "").removeprefix("Bearer "))
        if self.api_key is None or self.api_key in given:
            return None
        return _error(Failure(401, "Incorrect API key provided", code="invalid_api_key"))

    async def _behave(
        self, request: web.Request, received: Received, behaviour: Behaviour
    ) -> web.StreamResponse:
        match behaviour:
            case Failure():
                await _pause(behaviour.delay)
                return _error(behaviour)
            case Hang():
                await self._stopping.wait()
                return _error(Failure(503, "the server stops"))
            case Disconnect():
                return await self._cut(request, received, behaviour)
            case Reply():
                await _pause(behaviour.delay)
                if received.body.get("stream"):
                    return await self._stream(request, received, behaviour)
                return web.json_response(_whole(received, behaviour))

    async def _stream(
        self, request: web.Request, received: Received, reply: Reply
    ) -> web.StreamResponse:
        chunk = _chunker(received)
        response = await _open_stream(request)
        last: list[bytes] = []
        for index, piece in enumerate(_pieces(reply)):
            if index:
                await _pause(reply.chunk_delay)
            text = f"t={time.time():.6f} {piece}" if reply.stamp else piece
            delta = {"content": text} if index else {"role": "assistant", "content": text}
            last.append(chunk([{"index": 0, "delta": delta, "finish_reason": None}]))
            if reply.chunk_delay or reply.stamp:
                await response.write(last.pop())
        for index, call in enumerate(_calls(reply)):
            half = len(call["function"]["arguments"]) // 2
            opening = call["function"] | {"arguments": call["function"]["arguments"][:half]}
            rest = {"index": index, "function": {"arguments": call["function"]["arguments"][half:]}}
            for part in (call | {"index": index, "function": opening}, rest):
                delta = {"tool_calls": [part]}
                last.append(chunk([{"index": 0, "delta": delta, "finish_reason": None}]))
        if reply.send_finish:
            last.append(chunk([{"index": 0, "delta": {}, "finish_reason": _finish(reply)}]))
        if reply.send_usage and (received.body.get("stream_options") or {}).get("include_usage"):
            last.append(chunk([], usage=_usage(received, reply)))
        if reply.send_finish:
            last.append(b"data: [DONE]\n\n")
        await response.write(b"".join(last))
        await response.write_eof()
        return response

    async def _cut(
        self, request: web.Request, received: Received, behaviour: Disconnect
    ) -> web.StreamResponse:
        transport = request.transport
        if behaviour.after_chunks:
            chunk = _chunker(received)
            response = await _open_stream(request)
            for word in behaviour.text.split()[: behaviour.after_chunks]:
                delta = {"content": word + " "}
                await response.write(chunk([{"index": 0, "delta": delta, "finish_reason": None}]))
        if transport is not None:
            transport.close()
        raise ConnectionResetError("scripted disconnect")

    async def _embeddings(self, request: web.Request) -> web.Response:
        received = await self._receive(request)
        self.embedding_requests.append(received)
        texts = received.body["input"]
        texts = [texts] if isinstance(texts, str) else texts
        data = [
            {"object": "embedding", "index": index, "embedding": self._vector(str(text))}
            for index, text in enumerate(texts)
        ]
        tokens = sum(len(str(text).split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"object": "list", "model": received.body["model"], "data": data, "usage": usage}
        return web.json_response(answer)

    def _vector(self, text: str) -> list[float]:
        digest = hashlib.sha256(text.encode()).digest()
        return [digest[index % 32] / 255 for index in range(self.dimensions)]

    async def _models(self, request: web.Request) -> web.Response:
        if (refusal := self._refuse_key(request)) is not None:
            return refusal
        data = [{"id": name, "object": "model", "owned_by": "fake"} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _google_models(self, request: web.Request) -> web.Response:
        if (refusal := self._refuse_key(request)) is not None:
            return refusal
        return web.json_response({"models": [{"name": f"models/{name}"} for name in self.models]})

    async def _ollama_tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": f"{name}:latest"} for name in self.models]})


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


async def _open_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


def _chunker(received: Received) -> Callable[..., bytes]:
    head = {
        "id": f"chatcmpl-{received.n}",
        "object": "chat.completion.chunk",
        "created": int(received.at),
        "model": received.body.get("model"),
    }

    def chunk(choices: list[Json], usage: Json | None = None) -> bytes:
        body = head | {"choices": choices} | ({"usage": usage} if usage else {})
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    return chunk


def _pieces(reply: Reply) -> list[str]:
    if not reply.text:
        return []
    size = max(1, -(-len(reply.text) // max(1, reply.chunks)))
    return [reply.text[start : start + size] for start in range(0, len(reply.text), size)]


def _calls(reply: Reply) -> list[Json]:
    return [
        {
            "id": f"call_{index + 1}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            },
        }
        for index, (name, arguments) in enumerate(reply.tool_calls)
    ]


def _finish(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def _usage(received: Received, reply: Reply) -> Json:
    prompt = sum(
        len(_plain(message.get("content")).split()) for message in received.body["messages"]
    )
    tokens_in, tokens_out = reply.usage or (prompt, len(reply.text.split()))
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }


def _whole(received: Received, reply: Reply) -> Json:
    text = f"t={time.time():.6f} {reply.text}" if reply.stamp else reply.text
    message: Json = {"role": "assistant", "content": text or None}
    if reply.tool_calls:
        message["tool_calls"] = _calls(reply)
    return {
        "id": f"chatcmpl-{received.n}",
        "object": "chat.completion",
        "created": int(received.at),
        "model": received.body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(reply)}],
        "usage": _usage(received, reply),
    }


def _error(failure: Failure) -> web.Response:
    headers = {} if failure.retry_after is None else {"Retry-After": failure.retry_after}
    if failure.body is not None:
        return web.Response(status=failure.status, text=failure.body, headers=headers)
    error = {"message": failure.message, "type": "scripted", "param": None, "code": failure.code}
    return web.json_response({"error": error}, status=failure.status, headers=headers)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before a reply")
    parser.add_argument("--chunk-delay", type=float, default=0.0, help="seconds between chunks")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--reply-tokens", type=int, default=0, help="pad replies to N words")
    parser.add_argument("--stamp", action="store_true", help="put the emission time in chunks")
    parser.add_argument("--log", type=Path, help="JSON lines: received, sent, cut")
    return parser.parse_args()


def _order(received: Received) -> tuple[str, str] | None:
    """Return the call that the last prompt asks for next: of several one an answer, in order."""
    answered = 0
    for message in reversed(received.body.get("messages") or []):
        if message.get("role") == "user":
            break
        answered += message.get("role") == "tool"
    orders = _ORDER.findall(received.last_user_text)
    return orders[answered] if answered < len(orders) else None


async def _serve(options: argparse.Namespace) -> None:
    def respond(received: Received) -> Behaviour:
        order = _order(received)
        if order is not None:
            return Reply(tool_calls=[order], delay=options.delay)
        speech = _SPEECH.search(received.last_user_text)
        if speech is not None:
            number, pause = int(speech[1]), int(speech[2]) / 1000
            text = "".join(f"word{n:06d} " for n in range(number))
            return Reply(text=text, chunks=number, chunk_delay=pause, stamp=options.stamp)
        words = f"reply to {received.last_user_text[:200]} #{received.n}".split()
        words += ["word"] * (options.reply_tokens - len(words))
        return Reply(
            text=" ".join(words),
            delay=options.delay,
            chunk_delay=options.chunk_delay,
            chunks=options.chunks,
            stamp=options.stamp,
        )

    server = ModelServer(port=options.port, responder=respond, log=options.log, keep=False)
    async with server:
        print(server.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(_parse()))
