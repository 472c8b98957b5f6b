"""The protocols between domains, adapters and the engine: what each may expect of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from conclave.db import Transaction
from schema.domain.approvals import Approval, ApprovalRequest
from schema.domain.compaction import Compacted, ContextUse
from schema.domain.events import Delta
from schema.domain.identity import Principal
from schema.domain.llm import ModelReply, ModelRequest, ToolCall, ToolSpec
from schema.domain.mail import MailSettings
from schema.domain.profiles import ProfileAccess
from schema.domain.projects import Project
from schema.domain.providers import ProviderAccess, ProviderModel, ProviderName
from schema.domain.repositories import (
    Branch,
    Commit,
    CommitAuthor,
    Diff,
    Pushed,
    RepositoryStatus,
)
from schema.domain.sandbox import SandboxCommand, SandboxConfig, SandboxResult, SandboxStatus
from schema.domain.security import IpRule, SecurityConfig
from schema.domain.settings import KeptSetting, SettingValue
from schema.domain.tools import StepPlace, Tool, ToolAsker, ToolOutcome, ToolPlace
from schema.domain.urls import UrlPurpose
from schema.domain.web import WebAnswer, WebRequest
from schema.domain.workspaces import Entry, FileContent, Listing, WrittenFile
from schema.payloads.approvals import ApprovalInput
from schema.payloads.checkout import CheckoutInput, RemovalInput
from schema.payloads.conversations import AdvanceInput, AdvanceResult, ConversationState
from schema.payloads.tools import ToolRef

DeltaSink = Callable[[int, str], Awaitable[None]]
"""Takes (offset in characters, text) of a reply while it is spoken."""

ProgressSink = Callable[[str], None]
"""Takes a line of git's progress (`Receiving objects:  42% (5/12)`). Returns at once."""


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

    async def start_approval(self, asked: ApprovalInput) -> None:
        """Start an approval's run; already running is success."""
        ...

    async def wake_approval(self, approval_id: int) -> None:
        """Say that the approval was decided; a run that is not there needs no telling."""

    async def start_checkout(self, asked: CheckoutInput) -> None:
        """Start making a project's files; already running is success."""
        ...

    async def cancel_checkout(self, asked: CheckoutInput) -> None:
        """Ask a checkout to stop; one that is over, or never was, is success."""
        ...

    async def start_removal(self, asked: RemovalInput) -> None:
        """Start removing a deleted project's files; already running is success."""
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

    def count_tokens(self, request: ModelRequest, access: ProviderAccess) -> int:
        """Return how many tokens the prompt has for its model. Repeated counts cost little."""
        ...

    async def complete(
        self, request: ModelRequest, access: ProviderAccess, on_delta: DeltaSink
    ) -> ModelReply:
        """Stream a reply.

        Raises `ProviderRefused` where another try cannot help, `ProviderUnavailable` or
        `ProviderTimeout` where it can.
        """
        ...


class Toolbox(Protocol):
    """The tools there are, and how each is run."""

    def all(self) -> Sequence[Tool]:
        """Return every tool."""
        ...

    def get(self, name: str) -> Tool | None:
        """Return one by name."""
        ...

    async def run(
        self, tool: Tool, arguments: Mapping[str, JsonValue], place: ToolPlace
    ) -> ToolOutcome:
        """Run a call whose arguments fit the tool's schema.

        What the model can act on is an outcome, errors too. Raises a retryable `ConclaveError`
        where another try of the very same call may help.
        """
        ...


class ToolDesk(Protocol):
    """What a turn asks about tools, inside its own transactions."""

    async def offered(self, asker: ToolAsker) -> list[ToolSpec]:
        """Return what is put before the model. Costs no query as a rule."""
        ...

    async def record(
        self, tx: Transaction, asker: ToolAsker, place: StepPlace, calls: Sequence[ToolCall]
    ) -> list[ToolRef]:
        """Judge the calls of a reply and store them with it; what needs a yes is asked for."""
        ...

    async def refs(self, tx: Transaction, place: StepPlace) -> list[ToolRef]:
        """Return the calls that were stored with a step, as they stand."""
        ...

    async def cancel_open(self, tx: Transaction, conversation_id: int, reason: str) -> None:
        """Close every call of the conversation that is not over yet."""
        ...


class ApprovalDesk(Protocol):
    """Asks for a human's yes or no, inside the asking transaction."""

    async def request(self, tx: Transaction, wanted: ApprovalRequest) -> Approval:
        """Store a pending approval and tell of it."""
        ...


class ApprovalSubject(Protocol):
    """What an approval was asked for hears of its end, inside the deciding transaction."""

    async def check_arguments(
        self, tx: Transaction, approval: Approval, arguments: Mapping[str, JsonValue]
    ) -> None:
        """Raise `Invalid` where edited arguments do not fit."""
        ...

    async def grant(self, tx: Transaction, approval: Approval, granted_by: str) -> None:
        """Allow what was asked for the rest of its chat, where that may be."""
        ...

    async def decided(self, tx: Transaction, approval: Approval) -> None:
        """Take over how it ended: approved, rejected, expired or cancelled."""
        ...


class ProviderDirectory(Protocol):
    """Knows how each provider is reached."""

    async def access(self, provider: str) -> ProviderAccess:
        """Return the key, base URL and default model in force. Costs no query as a rule."""
        ...


class ProfileDirectory(Protocol):
    """Knows the profiles that chats choose their model by."""

    async def access(self, name: str) -> ProfileAccess | None:
        """Return a profile, its key in the clear; None where there is none of that name.

        Costs no query as a rule. Raises `EncryptionKeyMissing`, `SecretNotUsable` and
        `UndecipherableSecret` for a key that cannot be used.
        """
        ...

    async def default_name(self) -> str | None:
        """Return the name of the default profile, None where none is chosen."""
        ...


class Assistants(Protocol):
    """Knows the agent of chats that name none."""

    async def assistant_id(self) -> int:
        """Return its id, making the agent when it is first asked for."""
        ...


class ModelDefaults(Protocol):
    """Knows the model of agents that name none."""

    async def model(self) -> tuple[ProviderName, str]:
        """Return the provider and the model."""
        ...


class Compaction(Protocol):
    """Counts what a chat's model is sent, and shortens it."""

    async def context(self, conversation_id: int) -> ContextUse:
        """Return how full the context is. Raises `NotFound`."""
        ...

    async def compact(self, conversation_id: int, principal: Principal) -> Compacted:
        """Summarise all but the last user turns. Raises `BadRequest` where there is too little,
        `Conflict` while a turn runs."""
        ...


class SandboxConfigStore(Protocol):
    """The rules for sandboxed commands, as an administrator set them."""

    async def get(self) -> SandboxConfig:
        """Return what is in force."""
        ...

    async def update(self, changes: Mapping[str, JsonValue]) -> SandboxConfig:
        """Change the given fields. Raises `Invalid` naming the one that does not fit."""
        ...

    async def status(self) -> SandboxStatus:
        """Return what is really used on this host."""
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

    def context_window(self, access: ProviderAccess, model: str) -> int | None:
        """Return how many tokens a prompt of that model may have; None where that is unknown."""
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


class Chore(Protocol):
    """Something that upkeep does again and again (`schema.payloads.upkeep.ChoreName`)."""

    async def run(self) -> int:
        """Do a bounded piece of it, a second's work or so; return how many items were done.

        0 says that nothing is left, and should then have cost one cheap query. It may run twice
        at once, here and in another process. Raises ConclaveError.
        """
        ...


class UrlGuard(Protocol):
    """Judges outgoing URLs."""

    async def check(
        self,
        url: str,
        *,
        field: str,
        administrator: bool = False,
        purpose: UrlPurpose = UrlPurpose.WEB,
    ) -> None:
        """Raise `UrlRefused` unless the URL may be reached.

        `administrator` marks provider base URLs: loopback and private ranges are theirs to use.
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


API_KEY_PREFIX = "conclave_"
"""What begins with it is an API key, and nothing else is."""


class ApiKeyVerifier(Protocol):
    """Tells whose API key it is."""

    async def verify(self, key: str) -> Principal:
        """Return the key's principal, its scopes counted into the role.

        Raises `Unauthenticated` for an unknown, expired or revoked key, `Forbidden` where its
        owner is disabled, `Unavailable`.
        """
        ...

    def recognise(self, key: str) -> str | None:
        """Return the name to count the key's requests under, without any query."""
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

    async def resolve(self, text: str, *, tx: Transaction | None = None) -> str:
        """Return the named secret's present value; any other text as it is.

        With an open transaction the record is read in it; without one a value read at most a
        second ago is good enough. Raises `SecretNotUsable` where there is no such secret, it has
        expired, or it cannot be decrypted.
        """
        ...

    async def require(self, tx: Transaction, text: str, *, field: str) -> None:
        """Raise `Invalid` naming the field where `text` refers to a secret that cannot be used.

        The secret can neither be deleted nor renamed before `tx` ends: whoever stores the
        reference in it is seen by `SecretUser.uses_of` afterwards.
        """
        ...


class SecretUser(Protocol):
    """A domain that stores references to secrets."""

    async def uses_of(self, tx: Transaction, name: str) -> Sequence[str]:
        """Return what refers to the secret, as a sentence names it: `provider openai`."""
        ...


class SecretBox(Protocol):
    """Encrypts what is stored."""

    def seal(self, plain: str, *, context: str) -> bytes:
        """Encrypt; `context` binds the result to its place and must be given to open it."""
        ...

    def open(self, sealed: bytes, *, context: str) -> str:
        """Decrypt, with whichever key sealed it."""
        ...


class SettingHome(Protocol):
    """Keeps some of the settings that the catalogue lists, each under a name of its own.

    Every setting of one request is stored in one transaction, whatever its home.
    """

    async def check(self, name: str, value: SettingValue | None) -> None:
        """Raise `Invalid` for a value that can be refused without the record (no transaction)."""
        ...

    async def read(self, tx: Transaction) -> Mapping[str, KeptSetting]:
        """Return every setting kept here, in force: as stored, or what holds else."""
        ...

    async def store(self, tx: Transaction, name: str, value: SettingValue | None) -> None:
        """Store a value; None lets the default hold again. Holds here once committed.

        Raises `Invalid`, `EncryptionKeyMissing` for a secret.
        """
        ...


class DependencyProbe(Protocol):
    """Looks at one thing the service stands on."""

    async def check(self) -> None:
        """Return when it works. Raises `Unavailable` with a reason that holds no secret.

        May be cancelled at any moment, and leaves nothing behind then.
        """
        ...


class MailProbe(Protocol):
    """Looks whether a mail server would take mail, without sending any."""

    async def check(self, mail: MailSettings) -> None:
        """As `DependencyProbe.check`."""
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


class FileTree(Protocol):
    """The files of a workspace. Paths are relative to its root and never follow a link.

    Every operation raises a 400 (`path_refused`) for a path that leaves the tree, crosses a link
    or reaches into `.git`, before anything is touched; a 404 where nothing is there.
    """

    async def read(self, path: str) -> FileContent:
        """Return a file. Raises `TooLarge` beyond 5 MiB, `Conflict` for a directory."""
        ...

    async def write(
        self, path: str, data: bytes, *, expected_sha256: str | None = None
    ) -> WrittenFile:
        """Replace or make a file in one step, with the directories above it.

        Raises `TooLarge`, and `Conflict` where a directory is in the way or the content is no
        longer the expected one.
        """
        ...

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file or a directory. Raises `Conflict` for a full one unless `recursive`."""
        ...

    async def rename(self, source: str, target: str) -> Entry:
        """Move a file or directory, making directories. Raises `Conflict` for a taken target."""
        ...

    async def stat(self, path: str) -> Entry:
        """Return what stands under a path."""
        ...

    async def list(
        self, path: str = "", *, recursive: bool = False, limit: int = 10_000
    ) -> Listing:
        """Return what a directory holds, ordered by path; recursively for a search."""
        ...


class Repository(Protocol):
    """The git repository of a workspace. One operation that writes runs at a time.

    Every operation raises `Conflict` (`not_a_repository`) where there is none, and `Unavailable`
    where git is missing or another operation takes too long. What concerns a remote raises
    `Unavailable` (`remote_unreachable`) where another try may help, `Conflict`
    (`remote_refused`) with git's reason where it does not, `UrlRefused` for a bad address.
    """

    async def init(self, branch: str) -> None:
        """Make an empty repository, with an empty work tree, on that branch."""
        ...

    async def clone(
        self, url: str, *, branch: str | None, progress: ProgressSink, depth: int | None = None
    ) -> str | None:
        """Fetch a remote as `origin` into a new repository and check a branch out.

        Without `branch` the remote's own. Returns the branch, None where the remote is empty.
        """
        ...

    async def exists(self) -> bool:
        """Whether there is a repository."""
        ...

    async def status(self) -> RepositoryStatus:
        """Compare work tree, index and HEAD."""
        ...

    async def commits(self, limit: int, branch: str | None = None) -> Sequence[Commit]:
        """Return commits, newest first. Raises `NotFound` for an unknown branch."""
        ...

    async def branches(self) -> Sequence[Branch]:
        """Return local branches, then those seen at remotes."""
        ...

    async def stage(self, paths: Sequence[str]) -> None:
        """Take files, as they are now or gone, into the index. Raises `NotFound`."""
        ...

    async def unstage(self, paths: Sequence[str]) -> None:
        """Set files of the index back to HEAD. Raises `NotFound`."""
        ...

    async def commit(self, message: str, author: CommitAuthor | None = None) -> Commit:
        """Commit what is staged. Raises `Conflict` where nothing is."""
        ...

    async def diff(self, path: str | None = None, *, staged: bool = False) -> Diff:
        """Compare the work tree with the index, or the index with HEAD."""
        ...

    async def checkout(self, branch: str, *, create: bool = False) -> None:
        """Switch to a branch. Raises `Conflict` where changes would be lost or it exists."""
        ...

    async def push(self, remote: str = "origin", branch: str | None = None) -> Pushed:
        """Send a branch. Raises `Conflict` with git's reason where it is rejected."""
        ...

    async def pull(self, remote: str = "origin", branch: str | None = None) -> Pushed:
        """Fetch a branch and merge it. Raises `Conflict`; the work tree is as before then."""
        ...


class Workspace(Protocol):
    """A place for files, and the repository that records them."""

    @property
    def path(self) -> Path:
        """Where the files lie, for people and for sandboxes; never opened by this path."""
        ...

    @property
    def files(self) -> FileTree:
        """The files."""
        ...

    @property
    def repository(self) -> Repository:
        """The repository, which lies outside the files."""
        ...

    def moving(self) -> AbstractAsyncContextManager[None]:
        """Hold git off the files while a command may change them; several commands may at once.

        Raises `Unavailable` where git does not come to an end in half a minute.
        """
        ...


class WorkspaceStore(Protocol):
    """Where workspaces lie. A name is of digits, letters and dashes."""

    def workspace(self, name: str) -> Workspace:
        """Return a workspace, there or not."""
        ...

    async def make(self, name: str) -> Workspace:
        """Return a workspace, making an empty one without a repository where it is not there."""
        ...

    async def stage(self, name: str) -> Workspace:
        """Return an empty place where a workspace can be made, out of sight; others' are gone."""
        ...

    async def install(self, staged: Workspace, name: str) -> None:
        """Put what was made in its place in one step; what lies there is removed.

        The caller sees to it that nobody else installs or uses that workspace meanwhile.
        """
        ...

    async def discard(self, staged: Workspace) -> None:
        """Remove what was made and is not wanted."""
        ...

    async def remove(self, name: str) -> None:
        """Remove a workspace and all that was being made for it. May be repeated."""
        ...


class Workspaces(Protocol):
    """Opens the workspaces of projects, and of chats that have none."""

    async def open(self, project_id: int) -> tuple[Project, Workspace]:
        """Return a project and its files. Raises `NotFound`; `Conflict` before they are there."""
        ...

    async def scratch(self, name: str) -> Workspace:
        """Return the files that belong to `name`, making an empty place at first."""
        ...


class WebClient(Protocol):
    """Sends the HTTP requests of tools, none of them past the guard of outgoing URLs."""

    async def send(self, request: WebRequest, *, timeout: float) -> WebAnswer:
        """Return the answer, whatever its status; redirects are followed and judged each.

        Raises `UrlRefused`, `Invalid` for headers that cannot be sent, `WebFailed` where no
        answer came within `timeout` seconds.
        """
        ...


class RemoteUrls(Protocol):
    """Judges the addresses of git remotes."""

    async def check(self, url: str, *, field: str) -> None:
        """Raise `UrlRefused` for what may never be asked. A name unknown just now passes."""
        ...
