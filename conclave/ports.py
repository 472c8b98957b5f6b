"""The protocols between domains, adapters and the engine: what each may expect of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Protocol

from conclave.db import Transaction
from schema.domain.events import Delta
from schema.domain.identity import Principal
from schema.domain.llm import ModelReply, ModelRequest
from schema.domain.providers import ProviderAccess, ProviderModel
from schema.domain.sandbox import SandboxCommand, SandboxConfig, SandboxResult, SandboxStatus
from schema.domain.security import IpRule, SecurityConfig
from schema.payloads.conversations import AdvanceInput, AdvanceResult, ConversationState

DeltaSink = Callable[[int, str], Awaitable[None]]
"""Takes (offset in characters, text) of a reply while it is spoken."""


class WorkflowEngine(Protocol):
    """What the core asks of the durable engine.

    Every call may be made twice. Raises `Unavailable` when the engine cannot be reached and
    `ExecutionClosed` when that execution is over.
    """

    async def start_conversation(self, state: ConversationState) -> None:
        """Start the run; already running is success."""
        ...

    async def wake_conversation(self, state: ConversationState) -> None:
        """Say that the record has changed, starting the run if there is none."""
        ...

    async def advance(
        self, state: ConversationState, message: AdvanceInput, *, started: bool
    ) -> AdvanceResult:
        """Hand over an inbox row and wait for its answer.

        `started` says that a run is expected to exist already, which is cheaper.
        """
        ...

    async def is_reachable(self) -> bool:
        """Whether the engine answers, within a second."""
        ...

    async def live_workers(self) -> int:
        """Workers that asked for work within the last 75 seconds."""
        ...


class ConversationControl(Protocol):
    """What a circle's life does to its conversations, inside the circle's transaction."""

    async def pause_circle(self, tx: Transaction, circle_id: int) -> None:
        """Pause what runs, at its next turn boundary."""
        ...

    async def resume_circle(self, tx: Transaction, circle_id: int) -> None:
        """Let what was paused go on."""
        ...

    async def end_circle(self, tx: Transaction, circle_id: int) -> None:
        """End every conversation of the circle, for good."""
        ...


class StreamWatch(Protocol):
    """Waits for news of one event stream."""

    async def changed(self, stream: str, timeout: float) -> None:
        """Return at the stream's next event, or after `timeout` seconds."""
        ...


class ModelGateway(Protocol):
    """Calls models. One call, no retries of its own."""

    def worst_case_usd(self, request: ModelRequest, access: ProviderAccess) -> Decimal:
        """Return the most this call can cost, by the local price map."""
        ...

    async def complete(
        self, request: ModelRequest, access: ProviderAccess, on_delta: DeltaSink
    ) -> ModelReply:
        """Stream a reply.

        Raises `ProviderRefused` where another try cannot help, `ProviderUnavailable` or
        `ProviderTimeout` where it can.
        """
        ...


class ProviderDirectory(Protocol):
    """Knows how each provider is reached."""

    async def access(self, provider: str) -> ProviderAccess:
        """Return the key, base URL and default model in force. Costs no query as a rule."""
        ...


class ProviderProbe(Protocol):
    """Asks a provider whether it would answer: one cheap call, at most 10 seconds."""

    async def test(self, access: ProviderAccess) -> tuple[bool, str, list[str]]:
        """Return (works, a sentence, the models it lists). Never raises for a bad answer."""
        ...


class ModelCatalogue(Protocol):
    """The models the local price map knows."""

    def models(self, provider: str) -> Sequence[ProviderModel]:
        """Return a provider's chat models."""
        ...


class EventBus(Protocol):
    """Tells the other processes that there is something to read, and passes on deltas.

    Nothing it carries is the record: what is lost here is read from the database.
    """

    def poke(self) -> None:
        """Say that events were committed. Returns at once; several pokes become one."""
        ...

    def publish(self, delta: Delta) -> None:
        """Pass on a piece of text. Returns at once."""
        ...

    def flush(self, conversation_id: int) -> None:
        """Hold back no text of this conversation: its message is about to be committed."""
        ...

    def listen(self) -> AsyncIterator[Delta | None]:
        """Yield deltas, and None when events may be waiting."""
        ...


class UrlGuard(Protocol):
    """Judges outgoing URLs."""

    async def check(self, url: str, *, field: str, administrator: bool = False) -> None:
        """Raise `UrlRefused` unless the URL may be reached.

        `administrator` marks provider base URLs: private ranges are theirs to use.
        """
        ...


class Authenticator(Protocol):
    """Tells who shows a credential."""

    async def authenticate(self, credential: str) -> Principal:
        """Return whose credential it is: an access token, an API key or the gateway token.

        Asks the record each time, so that what is revoked is refused at once. Raises
        `Unauthenticated`, `Forbidden` for a disabled account, `Unavailable` where the record
        cannot be asked.
        """
        ...

    def recognise(self, credential: str) -> str | None:
        """Return the key of whoever this is, judged without any query; None where that is unknown.

        Good for counting requests, never for letting one through.
        """
        ...


class SecurityPolicy(Protocol):
    """The security settings in force."""

    async def current(self) -> SecurityConfig:
        """Return them, read from the record at most a second ago."""
        ...

    def last_known(self) -> SecurityConfig:
        """Return them without any query: as last read, or the defaults."""
        ...

    async def ip_rules(self) -> Sequence[IpRule]:
        """Return the IP rules in order, read from the record at most a second ago."""
        ...


class SecretReferences(Protocol):
    """Puts values in the place of `secret://name`."""

    async def resolve(self, text: str) -> str:
        """Return the named secret's present value; any other text as it is.

        Raises `SecretNotUsable` where there is no such secret or it has expired.
        """
        ...


class SecretBox(Protocol):
    """Encrypts what is stored."""

    def seal(self, plain: str, *, context: str) -> bytes:
        """Encrypt; `context` binds the result to its place and must be given to open it."""
        ...

    def open(self, sealed: bytes, *, context: str) -> str:
        """Decrypt, with whichever key sealed it."""
        ...


class Sandbox(Protocol):
    """Runs the commands of agents, confined as docs/sandbox.md says."""

    async def run(self, command: SandboxCommand, config: SandboxConfig) -> SandboxResult:
        """Run a command to its end; cancelled, it returns when nothing of the command is left.

        Raises `SandboxRefused` where nothing may run it as asked, `Invalid` for a workspace or a
        directory that will not do, `Unavailable` where the sandbox could not be set up this time.
        """
        ...

    async def status(self) -> SandboxStatus:
        """Return what is really used on this host. Costs nothing after the first call."""
        ...
